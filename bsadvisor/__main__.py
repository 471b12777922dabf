"""`python -m bsadvisor`."""

from bsadvisor.cli.app import main

main()
