"""One verb, one file: parse, assemble, call, print. `main(argv)` returns the exit code.

train          one run, a multirun, or a run continued
oracle         the optimum and the frontier of reward against KL, before any training
generate       what a trained policy (and its reference) answers
runs           a table of runs: state, step, reward, KL, how to continue
verify_resume  the last stretch of a run repeated and compared
demo           the ideas, with pictures that the tool's own functions compute

parser         what verbs with plain options share
stage          how demo looks on a terminal
"""
