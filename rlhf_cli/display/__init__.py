"""What a person sees; messages and progress go to stderr, results to stdout.

watchers  a live dashboard on a terminal, one plain line a step elsewhere
tables    the last table of a run, and its texts
data      the prompts of `rlhf data show`
reward    the table of `rlhf reward test`
runs      the runs there are
oracle    the optimum before any training: table and frontier
sweep     the trials while they run
answer    what a sweep ends with
pictures  charts in characters
words     texts made harmless, figures in a line
"""
