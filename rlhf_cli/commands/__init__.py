"""The verbs of `rlhf`. One verb, one file: parse, assemble, call, print; `main(argv)` returns the exit code.

training  train, sft, dpo, reward, feedback
planning  verbs to use before a run: check, explain, data, oracle, demo
results   verbs to use on what a run has written: eval, generate, merge, label, report, runs, verify-resume

parts     what verbs share, and their larger parts
"""
