"""Draw prompts where more is left to gain, and weigh each in the loss, so that the objective stays that of all prompts.

    q_x = (1 - FLOOR) p_x s_x / sum_z p_z s_z + FLOOR p_x        weight of x in the loss: p_x / q_x

p_x is the prompt's share of the objective: 1 / N, or its part's share over the part's rows. s_x is POWER of the
standard deviation of R = r - beta log(pi / pi_ref) over the completions of x, from its groups so far. R is constant
exactly at the optimum pi_ref exp(r / beta) / Z of x, and near it J* - J = Var(R) / (2 beta). A group whose R is
constant has no gradient, and Var(R) is what its gradient's noise grows with; so q_x in proportion to p_x sd(R) has the
least noise where the prompts' log-probabilities have gradients of one size (Kahn and Marshall 1953).

E[p_x / q_x g_x] = sum_x p_x g_x over the draws, for any q > 0: an estimate that is wrong costs noise alone.

The steps of a block share their estimates and one systematic draw, of which each takes every BLOCK-th place. So within
a block a prompt comes as often as q says, but for one, as it comes once in an epoch of uniform draws; else which
prompts come is noise as well. The start of a step's draw is uniform, and over it the expectation is taken.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Final

from rlhf_cli.data.order import PartSize
from rlhf_cli.seeding import permutation, seed_for
from rlhf_cli.settings import READ_STRICTLY

FLOOR: Final = 0.1
"""The part of the draws that does not depend on the estimates; no prompt weighs more than 1 / FLOOR."""
MEMORY: Final = 0.95
"""The factor by which a group counts less than the next one of its prompt: the policy has moved since."""
POWER: Final = 0.75
"""The power of the estimated spreads that the draws follow: these have errors, and the low ones cost the most noise."""
BLOCK: Final = 8
"""Steps of a block; the first ones have 1, 1, 2 and 4."""
PRIORS: Final = (0.3, 1.0)
"""A prompt is taken to have shown, beside its n groups, PRIOR^n ones with the mean of all prompts' variances.

Which number has less noise depends on the task: where a group without variance is chance, as with scores of 0 and 1,
the large one; where it is the prompt's nature, the small one, which counts until groups have come again.
"""


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
    waiting: tuple[tuple[int, float, float], ...] = ()
    """Prompt, variance and weight in the loss of each group of this block, which counts from the next one on."""
    noise: tuple[float, ...] = (0.0,) * len(PRIORS)
    """The noise of draws by each of PRIORS, up to a factor and a constant, on the groups that came."""

    def observe(self, groups: Iterable[tuple[int, float, float]], step: int) -> Headroom:
        """The same after `step` steps and the groups of the last one: prompt, variance of R and weight in the loss."""
        waiting = (*self.waiting, *groups)
        if block_of(step) != step:
            return replace(self, waiting=waiting)
        counts, sums, noise, typical = dict(self.groups), dict(self.variances), list(self.noise), self.typical()
        for prompt, variance, weight in waiting:
            for number, prior in enumerate(PRIORS if typical else ()):
                gain = self.gain(prompt, prior, typical)
                noise[number] += weight * (variance / typical / gain + gain)
            counts[prompt] = MEMORY * counts.get(prompt, 0.0) + 1
            sums[prompt] = MEMORY * sums.get(prompt, 0.0) + variance
        return Headroom(counts, sums, (), tuple(noise))

    def typical(self) -> float:
        """The mean of the prompts' variances; 0 without a group."""
        # an exact sum: a state that was read has its prompts in another order than one that grew
        return math.fsum(self.variances[n] / count for n, count in self.groups.items()) / max(len(self.groups), 1)

    def gain(self, prompt: int, prior: float, typical: float) -> float:
        """POWER of the prompt's spread over the typical one, which further groups are taken to have shown."""
        count = self.groups.get(prompt, 0.0)
        further = math.pow(prior, count)
        return math.pow((self.variances.get(prompt, 0.0) / typical + further) / (count + further), POWER / 2)

    def chances(self, parts: Sequence[PartSize]) -> list[tuple[float, float]]:
        """The share p of each prompt in the objective, and the probability q of its draws; both add up to 1."""
        whole = sum(part.weight for part in parts)
        shares = [part.weight / whole / part.rows for part in parts for _ in range(part.rows)]
        prior, typical = PRIORS[self.noise.index(min(self.noise))], self.typical() or 1.0
        gains = [share * self.gain(n, prior, typical) for n, share in enumerate(shares)]
        total = sum(gains)
        return [(p, (1 - FLOOR) * gain / total + FLOOR * p) for p, gain in zip(shares, gains, strict=True)]

    def draw(self, parts: Sequence[PartSize], count: int, seed: int, step: int) -> tuple[tuple[int, float], ...]:
        """The `count` prompts of `step` (0-based), each with its weight in the loss.

        A pure function of the estimates, the seed and the step. Each part has its share of the draws, but for one.
        """
        block = block_of(step)
        chances, order, first = self.chances(parts), list[int](), 0
        for part in parts:
            order += [first + row for row in permutation(part.rows, seed_for(seed, f"headroom/{part.name}", block))]
            first += part.rows
        # 5 has no factor in common with BLOCK, so the starts of a block's steps are evenly spread
        start = ((seed_for(seed, "headroom", block) >> 10) / 2**53 + 5 * (step - block) / BLOCK) % 1
        places = systematic([chances[prompt][1] for prompt in order], count, start)
        drawn = [order[place] for place in places]
        return tuple((prompt, chances[prompt][0] / chances[prompt][1]) for prompt in drawn)


def block_of(step: int) -> int:
    """The first step of the block that has `step`, both 0-based: 0, 1, 2, 4, and from BLOCK on each multiple of it."""
    if step >= BLOCK:
        return step - step % BLOCK
    return 2 ** (step.bit_length() - 1) if step else 0


def systematic(chances: Sequence[float], count: int, start: float) -> list[int]:
    """Draw `count` places in ascending order; over `start`, uniform in [0, 1), place n comes count x chances[n] times.

    Systematic sampling: a place comes less than once more or less often than that. Independent draws vary more.
    """
    ends = list(accumulate(chances))
    return [min(bisect_right(ends, (start + n) / count * ends[-1]), len(ends) - 1) for n in range(count)]
