"""Show runs, sweeps and data on a terminal. Messages and progress go to stderr, results to stdout.

watchers    choose the reporter that shows a run
dashboard   a live dashboard on a terminal
lines       one plain line a step, JSON lines, bars of phases, or only notes
console     a console that stops the run when nobody reads any more
settings    the settings of a run: values, what sets them, meanings
tables      the result of a run of any kind: its last table, and its texts
data        the prompts and lengths of `rlhf data show`
reward      the table of `rlhf reward test`
runs        the table of `rlhf runs`
oracle      the tables and the plot of `rlhf oracle`
sweep       the trials of a sweep while they run
answer      the answer of a sweep
following   the commands that may follow a run or a sweep
sides       the table of `rlhf eval`
typed       what a rater types: keys of a terminal, lines of a pipe
labelling   ask a rater, and print the result of the votes
pictures    print charts in characters
words       make texts harmless, and put figures in a line
"""
