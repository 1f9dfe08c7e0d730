"""Training on fixed texts: imitate completions (sft), or learn from preferences (dpo, a reward model).

settings    SupervisedConfig: everything one run depends on
objectives  one loss, one file
lessons     the texts in the columns of a row
texts       from a row to token ids
batches     an example as token ids, and the batch of several
examples    the examples of a run, and which of them belong to which step
"""
