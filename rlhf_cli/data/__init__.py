"""Prompts: where they come from and in which order they are used.

settings  the `data` group
jsonl     reading prompt files, with file:line errors
order     which prompts belong to which step: a pure function of seed and step
prompts/  prompt files of our own
"""
