"""Several processes that share the work of one run.

The process of rank 0 is the run: it decides, asks the reward and writes. The others hold the same model and calculate
the shards of a step that they are dealt; what they return does not depend on who calculates it.

gathering  start the others, or find those that torchrun started; end them
children   the others as children of this process
dealing    which shard has which prompts, and which process has which shard
rollouts   take a rollout apart by prompts, and join rollouts
team       the processes that calculate a run's shards, this one alone or with others; they have to be alike
duties     what each process of `rlhf train` loads and may be sent
shards     sample and read a batch, shard by shard
gradient   the gradient of a loss, shard by shard

sharding   a base model of which each process holds a part
lockstep   all of them make the same passes through it

leader     the first process's side: it sends shards, and notices where another process fails
link       its connection to one other process
worker     the others' side: they calculate what they are sent
failures   an error of another process
messages   an order and its answer
coding     a message as bytes, without pickle
wire       send and receive it
"""
