#compdef bsadvisor

_bsadvisor_completion() {
  eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _BSADVISOR_COMPLETE=complete_zsh bsadvisor)
}

compdef _bsadvisor_completion bsadvisor
