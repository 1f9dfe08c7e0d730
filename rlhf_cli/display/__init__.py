"""Show runs, sweeps and data on a terminal. Messages and progress go to stderr, results to stdout.

watchers    choose the reporter that shows a run
dashboard   a live dashboard on a terminal
lines       one plain line a step, JSON lines, bars of phases, or only notes
console     a console that stops the run when nobody reads any more
verbs       what verbs print that read or try something
tables      the result of a run of any kind: its last table, and its texts
sweep       the trials of a sweep while they run
answer      the answer of a sweep
following   the commands that may follow a run or a sweep
typed       what a rater types: keys of a terminal, lines of a pipe
labelling   ask a rater, and print the result of the votes
figures     tables of figures
pictures    print charts in characters
printing    print a JSON object, or a note
words       make texts harmless, and put figures in a line
"""
