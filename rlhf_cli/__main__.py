"""`python -m rlhf_cli`: the command line of this very interpreter, for the trials of a sweep."""

from rlhf_cli.cli import main

main()
