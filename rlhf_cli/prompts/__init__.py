"""Prompts: from the rows of a source to token ids.

rows          read the prompts and set the held-out ones aside, before any model is loaded
encoding      turn prompts into tokens; drop, cut or refuse those that are too long
preview       counts, lengths and a few prompts before a run: `rlhf data show`
headroom      draw prompts where more is left to gain, and weigh each in the loss
dynamic       learn from groups with different scores alone (DAPO), and what this leaves out
conversation  the turns of a chat: the prompt of the next answer, and rows to train on
"""
