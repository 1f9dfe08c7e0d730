"""One verb, one file: parse, assemble, call, print. `main(argv)` returns the exit code.

train          one run, a multirun, or a run continued
data           data show: the prompts as the policy reads them
reward         reward test: whether a reward is repeatable, fair and quick
oracle         the optimum and the frontier of reward against KL, before any training
generate       what a trained policy (and its reference) answers
label          blind votes of people on pairs of completions
report         the page of a run, of several runs or of a sweep
runs           a table of runs: state, step, reward, KL, how to continue
verify_resume  the last stretch of a run repeated and compared
demo           the lecture, on the terminal or as a page

ready          mistakes refused before anything is written, and where a run goes on
pairing        the pairs that label means
sweeping       run the trials of train -m
parser         parse plain options
stage          show a scene of demo on a terminal
"""
