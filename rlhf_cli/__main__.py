"""`python -m rlhf_cli`: the command line, run by the same interpreter; the trials of a sweep start so."""

from rlhf_cli.cli import main

main()
