"""Parts of verbs: those that several share, and the larger ones.

parser       parse the options of a verb
pairing      find the pairs that `label` asks about, and the held-out prompts of a run
answering    the prompts of `eval`, and both sides' answers
writing      load a trained policy to write texts, for `generate` and `chat`
chatting     the session of `chat`: commands with a slash, and turns
exporting    open a policy to write it, for `merge`, `export` and `eval --harness`
harnessing   ask lm-eval, for `eval --harness`
repeating    repeat stretches of a run, for `verify-resume` and `audit`
running      start, resume or finish a run in its folder
supervising  how `sft`, `dpo` and `reward train` train
rounds       do what is left of a round of `feedback`
searching    run the trials of a search, each chosen when a process is free for it
sweeping     run the trials of `train -m`, and show the answer
stage        show a scene of `demo` on a terminal
ready        refuse mistakes before anything is written, and hold the folder of a run
resuming     find the run that a command goes on with
"""
