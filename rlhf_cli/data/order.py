"""The prompts of each step: epoch after epoch, each in its own order, cut into steps of any size.

This is a pure function of seed and step: there is no iterator to save, and no special case at the end of an epoch. Each
part of a mixture has its own epochs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from rlhf_cli.seeding import permutation, seed_for


@dataclass(frozen=True, slots=True)
class PartSize:
    """The name, weight and number of rows of a part, on which the order depends."""

    name: str
    """Empty for a single source."""
    weight: float
    rows: int


def prompts_of_step(step: int, parts: Sequence[PartSize], prompts_per_step: int, seed: int) -> list[tuple[int, int]]:
    """Return (part, row of the part) for each prompt of `step` (0-based); a step may span the end of an epoch."""
    first, end = step * prompts_per_step, (step + 1) * prompts_per_step
    if len(parts) == 1:
        used = [(0, turn) for turn in range(first, end)]
    else:  # up to the next power of two: the table grows with the run and is recomputed only at every doubling
        used = [*_turns(tuple(part.weight for part in parts), 1 << (end - 1).bit_length())[first:end]]
    return [(part, _row(parts[part], turn, seed)) for part, turn in used]


def split_by_weight(weights: Sequence[float], count: int) -> list[int]:
    """Split `count` prompts among parts by weight, each within 1 of its share."""
    if len(weights) == 1:
        return [count]
    taken = [part for part, _ in _turns(tuple(weights), count)]
    return [taken.count(part) for part in range(len(weights))]


@lru_cache(maxsize=4)
def _turns(weights: tuple[float, ...], count: int) -> tuple[tuple[int, int], ...]:
    """The part of each of the first `count` prompts, and the number of earlier prompts of that part.

    The quota method (Balinski and Young 1975): of the parts behind their share, take the part with the most weight per
    prompt. Every part stays within 1 of its share; always taking the part farthest behind would not ensure that.
    """
    whole = sum(weights)
    taken = [0] * len(weights)
    turns = []
    for position in range(1, count + 1):
        behind = [part for part, weight in enumerate(weights) if taken[part] * whole < weight * position]
        part = max(behind, key=lambda part: weights[part] / (taken[part] + 1))
        turns.append((part, taken[part]))
        taken[part] += 1
    return tuple(turns)


def _row(part: PartSize, turn: int, seed: int) -> int:
    return _epoch_order(part, turn // part.rows, seed)[turn % part.rows]


@lru_cache(maxsize=16)
def _epoch_order(part: PartSize, epoch: int, seed: int) -> list[int]:
    return permutation(part.rows, seed_for(seed, f"perm/{part.name}" if part.name else "perm", epoch))
