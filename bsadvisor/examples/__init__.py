"""Complete examples: what `bsadvisor init` writes."""
