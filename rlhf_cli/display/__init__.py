"""Show runs, sweeps and data on a terminal. Messages and progress go to stderr, results to stdout.

watchers   choose the reporter that shows a run
dashboard  a live dashboard on a terminal
lines      one plain line a step, JSON lines, bars of phases, or only notes
console    a console that stops the run when nobody reads any more
tables     the last table of a run, and its texts
data       the table of `rlhf data show`
reward     the table of `rlhf reward test`
runs       the table of `rlhf runs`
oracle     the optimum before any training
sweep      the trials of a sweep while they run
answer     the answer of a sweep
following  the commands that may follow a run or a sweep
labelling  questions to a rater, and what the votes say
pictures   charts in characters
words      harmless texts, figures in a line
"""
