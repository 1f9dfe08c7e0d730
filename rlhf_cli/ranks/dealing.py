"""Deal the prompts of a batch to shards, and shards to processes."""

from __future__ import annotations

from itertools import pairwise


def deal(prompts: int, shards: int) -> list[range]:
    """The numbers of each shard's prompts: blocks in order, as even as they come, none of them empty."""
    count = min(prompts, shards)
    size, longer = divmod(prompts, count)
    return [range(*ends) for ends in pairwise(shard * size + min(shard, longer) for shard in range(count + 1))]


def turns(shards: int, processes: int, rank: int) -> range:
    """The shards that a process calculates: every `processes`-th one, beginning with its own rank."""
    return range(rank, shards, processes)
