"""A sweep: its trials, the processes they run in, and the answer it ends with.

pool     trials as processes, so many at a time
slots    the GPUs or CPU threads that a trial gets
record   what a sweep is to run, and how each trial ended, as files
outcome  what the trials of a sweep found
choice   the recommended point, the Pareto front, paired differences
reason   why that point, in sentences
reach    the optimum's curve and best-of-n, from the sweep's own evaluations
answer   the answer, put together
"""
