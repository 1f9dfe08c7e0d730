"""Verbs that train.

train     start a run or a sweep, or resume a run
fork      go on from a checkpoint with other settings and the same random numbers
sft       train a model on completions that you give
dpo       train a model on pairs of completions
reward    reward train: train a reward model; reward test: whether a reward is repeatable, fair and quick
feedback  rounds of sampling, voting, training a reward model, and training from it
"""
