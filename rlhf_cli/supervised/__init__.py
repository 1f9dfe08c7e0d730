"""Training on fixed texts: imitate completions (sft), or learn from preferences (dpo, a reward model).

loop        the loop, on one screen

learning    the gradient of a batch's loss, and the update of the weights
shards      read the examples of a batch, shard by shard, in any process
held_out    judge the held-out rows
step        begin a run; complete a step, or skip it

settings    SupervisedConfig: everything one run depends on
objectives  one loss, one file
lessons     the texts in the columns of a row
texts       from a row to token ids
batches     an example as token ids, and the batch of several
examples    the examples of a run, and which of them belong to which step
run         everything that a run holds
duties      the model that each process loads, and what it may be sent

assemble    SupervisedConfig and rows -> SupervisedRun, fresh or from a checkpoint
evaluation  the evaluations of the held-out rows, and the file that holds them
conclude    the end of a run
result      the figures that a run ends with
"""
