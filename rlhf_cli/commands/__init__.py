"""The verbs of `rlhf`. One verb, one file: parse, assemble, call, print; `main(argv)` returns an exit code if not 0.

training  train, fork, sft, dpo, reward, feedback
planning  verbs to use before a run: check, explain, data, oracle, verify-gradient, presets, schema, skill, demo
results   verbs to use on what a run has written: report, eval, generate, chat, doctor, label, merge, export, push,
          runs, verify-resume

parts     what verbs share, and their larger parts
"""
