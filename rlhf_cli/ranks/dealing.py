"""Deal the prompts of a batch to shards, and shards to processes."""

from itertools import pairwise
from typing import Final

UNITS: Final = 4
"""Parts of a step whose gradients are calculated one by one where the engine is invariant: with up to so many shards a
step has the same bytes. More parts are smaller products, which take longer."""


def deal(prompts: int, shards: int) -> list[range]:
    """The numbers of each shard's prompts: blocks in order, as even as they come, none of them empty."""
    count = min(prompts, shards)
    size, longer = divmod(prompts, count)
    return [range(*ends) for ends in pairwise(shard * size + min(shard, longer) for shard in range(count + 1))]


def deal_units(prompts: int, shards: int, units: int) -> list[list[range]]:
    """The numbers of the prompts of each shard's units, none of them empty.

    Where there are as many units as shards, or more, the units are the same for any number of shards. Fewer, or zero:
    each shard is a unit.
    """
    if units < shards:
        return [[block] for block in deal(prompts, shards)]
    count = min(prompts, units)
    # the longer ones are spread, so that the shards are about even
    blocks = [range(*ends) for ends in pairwise(number * prompts // count for number in range(count + 1))]
    return [[blocks[number] for number in part] for part in deal(count, shards)]


def rank_of(shard: int, processes: int) -> int:
    """The rank of the process that calculates the shard, whichever batch it is of: the processes take turns."""
    return shard % processes
