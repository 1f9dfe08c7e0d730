"""One verb, one file: parse, assemble, call, print. `main(argv)` returns the exit code.

train     one run, a multirun, or a run continued
generate  what a trained policy (and its reference) answers
"""
