"""Verbs to use on what a run has written.

eval           a trained policy against its reference or another one
generate       the answers of a trained policy, and of its reference
chat           a conversation with a trained policy
merge          write a trained policy as a plain transformers folder
export         write a trained policy as a GGUF file
label          blind votes of people on pairs of completions
push           a trained policy, or the folder of a model, to a hub
report         the page of a run, of several runs or of a sweep
doctor         what is wrong with a run or with the machine
runs           a table of runs: state, step, reward, KL, how to continue
verify_resume  repeat the last stretch of a run, and compare
audit          check a run's files, repeat stretches that are chosen at random
"""
