"""From the rows of a source to token ids.

rows      the prompts, read and divided, before any model is loaded
encoding  prompts as tokens; what is too long is dropped, cut or refused
preview   a first look at them: `rlhf data show`
"""
