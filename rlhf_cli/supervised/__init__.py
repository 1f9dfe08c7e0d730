"""Training on fixed texts: imitate completions (sft), or learn from preferences (dpo, a reward model).

settings    SupervisedConfig: everything one run depends on
objectives  one loss, one file
batches     an example as token ids, and the batch of several
"""
