"""Which prompts a step uses: epoch after epoch, each in an order of its own, cut into steps of any size.

A pure function of (seed, step): there is no iterator to save, and no special case at the end of an epoch.
"""

from __future__ import annotations

from functools import lru_cache

from rlhf_cli.seeding import permutation, seed_for


def rows_of_step(step: int, rows: int, prompts_per_step: int, seed: int) -> list[int]:
    """Row numbers for `step` (0-based) out of `rows`; a step may reach across the end of an epoch."""
    positions = range(step * prompts_per_step, (step + 1) * prompts_per_step)
    return [_epoch_order(position // rows, rows, seed)[position % rows] for position in positions]


def held_out_rows(rows: int, count: int, seed: int) -> tuple[list[int], list[int]]:
    """Row numbers for training and for evaluation, both in file order: `count` of them are set aside by the seed."""
    chosen = set(permutation(rows, seed_for(seed, "held out"))[:count])
    return [row for row in range(rows) if row not in chosen], sorted(chosen)


@lru_cache(maxsize=4)
def _epoch_order(epoch: int, rows: int, seed: int) -> list[int]:
    return permutation(rows, seed_for(seed, "perm", epoch))
