"""Draw prompts where more is left to gain, and weigh each in the loss, so that the objective stays that of all prompts.

    q_x = (1 - FLOOR) p_x s_x / sum_z p_z s_z + FLOOR p_x        weight of x in the loss: p_x / q_x

p_x is the prompt's share of the objective: 1 / N, or its part's share over the part's rows. s_x is the standard
deviation of R = r - beta log(pi / pi_ref) over the completions of x, from its groups so far. R is constant exactly at
the optimum pi_ref exp(r / beta) / Z of x, and near it J* - J = Var(R) / (2 beta). A group whose R is constant has no
gradient, and Var(R) is what its gradient's noise grows with; so q_x in proportion to p_x s_x has the least noise where
the prompts' log-probabilities have gradients of one size (Kahn and Marshall 1953).

E[p_x / q_x g_x] = sum_x p_x g_x over the draws, for any q > 0: an estimate that is wrong costs noise alone.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from rlhf_cli.data.order import PartSize
from rlhf_cli.seeding import permutation, seed_for
from rlhf_cli.settings import READ_STRICTLY

FLOOR: Final = 0.1
"""The part of the draws that does not depend on the estimates; no prompt weighs more than 1 / FLOOR."""
MEMORY: Final = 0.75
"""The factor by which a group counts less than the next one of its prompt: the policy has moved since."""
PRIOR: Final = 0.1
"""Groups that a prompt is taken to have shown before its first one, with the mean variance of all groups."""


@dataclass(frozen=True, slots=True)
class Headroom:
    """Estimates of what is left to gain at each prompt, from its groups so far; part of a checkpoint.

    Prompts have numbers from 0, part by part.
    """

    __pydantic_config__ = READ_STRICTLY

    groups: Mapping[int, float] = field(default_factory=dict)
    """Prompt -> its groups; each counts MEMORY times the next one."""
    variances: Mapping[int, float] = field(default_factory=dict)
    """Prompt -> the sum of their variances of R, which count in the same way."""

    def observe(self, variances: Iterable[tuple[int, float]]) -> Headroom:
        """The same after more groups: for each its prompt and its variance of R."""
        groups, sums = dict(self.groups), dict(self.variances)
        for prompt, variance in variances:
            groups[prompt] = MEMORY * groups.get(prompt, 0.0) + 1
            sums[prompt] = MEMORY * sums.get(prompt, 0.0) + variance
        return Headroom(groups, sums)

    def chances(self, parts: Sequence[PartSize]) -> list[tuple[float, float]]:
        """The share p of each prompt in the objective, and the probability q of its draws; both add up to 1."""
        whole = sum(part.weight for part in parts)
        shares = [part.weight / whole / part.rows for part in parts for _ in range(part.rows)]
        groups, variances = self.groups, self.variances
        # exact sums: a state that was read has its prompts in another order than one that grew
        typical = math.fsum(variances.values()) / math.fsum(groups.values()) if groups else 1.0
        gains = [
            share * math.sqrt((variances.get(n, 0.0) + PRIOR * typical) / (groups.get(n, 0.0) + PRIOR))
            for n, share in enumerate(shares)
        ]
        total = sum(gains)
        if not total:  # no group had any variance
            return list(zip(shares, shares, strict=True))
        return [(p, (1 - FLOOR) * gain / total + FLOOR * p) for p, gain in zip(shares, gains, strict=True)]

    def draw(self, parts: Sequence[PartSize], count: int, seed: int, step: int) -> tuple[tuple[int, float], ...]:
        """The `count` prompts of `step` (0-based), each with its weight in the loss.

        A pure function of the estimates, the seed and the step. Each part has its share of the draws, but for one.
        """
        chances, order, first = self.chances(parts), list[int](), 0
        for part in parts:
            order += [first + row for row in permutation(part.rows, seed_for(seed, f"headroom/{part.name}", step))]
            first += part.rows
        start = (seed_for(seed, "headroom", step) >> 10) / 2**53
        places = systematic([chances[prompt][1] for prompt in order], count, start)
        drawn = [order[place] for place in places]
        return tuple((prompt, chances[prompt][0] / chances[prompt][1]) for prompt in drawn)


def systematic(chances: Sequence[float], count: int, start: float) -> list[int]:
    """Draw `count` places in ascending order; over `start`, uniform in [0, 1), place n comes count x chances[n] times.

    Systematic sampling: a place comes less than once more or less often than that. Independent draws vary more.
    """
    ends = list(accumulate(chances))
    return [min(bisect_right(ends, (start + n) / count * ends[-1]), len(ends) - 1) for n in range(count)]
