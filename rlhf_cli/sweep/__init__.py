"""A sweep: its trials, the processes they run in, and the answer it ends with.

launchers  the settings of what starts the trials: this machine, joblib, Ray, Slurm
pool       trials as processes, a few at a time
remote     a trial as a process that a worker elsewhere starts
elsewhere  trials that joblib, Ray or submitit start
slots      the GPUs or CPU threads that a trial gets
record     the files of a sweep: what it is to run, and how each trial ended
search     a search: its settings, and the space of values
study      the study of a search: what to try next, by optuna
found      the result of a search, in sentences
growth     a sweep that goes on with more values: its fixed settings, and the trials it has
outcome    the result of each trial, read from its folder
choice     the Pareto front, paired differences, the point to recommend
points     trials that differ in nothing but the seed, as one point
reason     why that point, or why none, in sentences
power      how many prompts, seeds or steps would show a gain
reach      the optimum's curve and best-of-n, from the sweep's own evaluations
answer     the answer, put together
"""
