"""The training loop and its stages.

loop       the loop: it reads as the algorithm does

rollout    draw a rollout: sample completions of the next prompts, and ask the reward
scoring    the scores and token rewards of a rollout, and its distance from the reference
update     advantages -> gradient -> new weights, one or more updates a rollout
held_out   evaluate on held-out prompts, with fixed decoding
step       begin a run; complete a step, or skip it

run        everything that a run holds, as plain data
work       timing, progress, stop checks and out-of-memory-safe microbatches of a stage
state      what a checkpoint saves, and what an interrupted step goes back to
saving     publish checkpoints, tolerate failed ones, keep the best one
skipping   Skip, the dump of a skipped step's batch, and the limit of skips in a row
signals    Ctrl-C, SIGTERM, SIGUSR1 and the time limit, held back where they would tear something
measures   the metrics of a step
profiling  two steps under torch's profiler
record     run.json: what ran where and on what

assemble   RunConfig and prompts -> Run, fresh or from a checkpoint
conclude   the end of a run
completions  sample from the reference, or any policy, outside of a run, and score
"""
