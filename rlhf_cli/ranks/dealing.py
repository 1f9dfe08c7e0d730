"""Deal the prompts of a batch to shards, and shards to processes."""

from __future__ import annotations

from itertools import pairwise


def deal(prompts: int, shards: int) -> list[range]:
    """The numbers of each shard's prompts: blocks in order, as even as they come, none of them empty."""
    count = min(prompts, shards)
    size, longer = divmod(prompts, count)
    return [range(*ends) for ends in pairwise(shard * size + min(shard, longer) for shard in range(count + 1))]


def rank_of(shard: int, processes: int) -> int:
    """The rank of the process that calculates the shard, whichever batch it is of: the processes take turns."""
    return shard % processes
