"""The training loop and its stages.

loop       THE loop: it reads as the algorithm does

scoring    scores, trainer and reference: what a rollout is worth
update     advantages -> gradient -> new weights, once or several times a rollout
held_out   evaluation on held-out prompts, fixed decoding

run        Run: everything a run holds, as plain data
work       timing, progress, stop checks and out-of-memory-safe microbatches of a stage
state      what a checkpoint saves, and what an interrupted step goes back to
saving     checkpoints published, failures borne, the best one kept
skipping   skipped steps, and what is kept of them
signals    Ctrl-C, SIGTERM, SIGUSR1 and the time limit, held back where they would tear something
measures   the metrics of a step
clock      seconds by phase
profiling  two steps under torch's profiler
record     run.json: what ran where and on what

assemble   RunConfig and prompts -> Run, fresh or from a checkpoint
conclude   the end of a run
reference  completions of the untouched reference, scored
"""
