"""The run itself.

loop        THE loop
run         Run: everything a run holds, its state, its files; stepping, logging, saving
rows        the prompts, read and divided
assemble    RunConfig and prompts -> Run, fresh or from a checkpoint
scoring     rollout -> scores, trainer and reference, KL, rewards
update      advantages -> gradient -> new weights, once or several times a rollout
measures    the metrics of a step
held_out    evaluation on held-out prompts, fixed decoding
evaluation  what an evaluation found, how far that is towards the optimum, and how two compare
reference   the reference's completions at the held-out prompts, scored
oracle      the optimum and the frontier, from these
logbook     what it writes down as it goes
conclude    the end of a run
result      how a run ended, as plain data
state       what a checkpoint saves, and what an interrupted step goes back to
saving      checkpoints published, failures borne, the best one kept
skipping    steps that change nothing, and what is kept of them
resume      which run and checkpoint to continue, and what may differ
runs        what runs there are, and how each stands
written     all that a run wrote down, for its page
verify      a run's last stretch repeated
divergence  the first thing that came out otherwise
reporter    what the pipeline tells whoever is watching
signals     Ctrl-C, SIGTERM, SIGUSR1 and the time limit, held back where they would tear something
"""
