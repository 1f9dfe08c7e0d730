"""The verbs of `rlhf`. One verb, one file: parse, assemble, call, print; `main(argv)` returns the exit code.

train          train: start a run or a sweep, or resume a run
check          go or no-go, from one step without a change of weights
explain        the settings of a run: value, what sets it, meaning
data           data show: the prompts as the policy reads them
sft            sft: train a model on completions that you give
dpo            dpo: train a model on pairs of completions
reward         reward train: train a reward model; reward test: whether a reward is repeatable, fair and quick
oracle         the optimum and the frontier of reward against KL, before any training
eval           a trained policy against its reference or another one
generate       the answers of a trained policy, and of its reference
merge          write a trained policy as a plain transformers folder
label          blind votes of people on pairs of completions
feedback       rounds of sampling, voting, training a reward model, and training from it
report         the page of a run, of several runs or of a sweep
runs           a table of runs: state, step, reward, KL, how to continue
verify_resume  repeat the last stretch of a run, and compare
demo           the lecture, on the terminal or as a page

parser         parse the options of a verb
parts          the larger parts of verbs: pairs of label, answers of eval, trials of train -m, runs of sft, scenes
"""
