"""Means over seeds and prompts, with intervals and tests that count both; Holm's rule for many of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist, fmean
from typing import Final

from rlhf_cli.evaluation.intervals import Estimate, t_quantile

LEVEL: Final = 0.05
"""Two-sided level of every test: a 95 % interval."""
_PIECES: Final = 200
_MANY: Final = 100.0
"""From so many degrees of freedom on, `t_quantile` is exact enough at any level."""


@dataclass(frozen=True, slots=True)
class MeanSquares:
    """The mean squares of a table of `seeds` rows and `prompts` columns; with one seed all is in `prompt`."""

    seeds: int
    prompts: int
    seed: float
    prompt: float
    rest: float

    def parts(self) -> tuple[float, float, float]:
        """The variances that a seed, a prompt, and both together add to a value; never below 0."""
        if self.seeds == 1:
            return 0.0, 0.0, self.prompt
        return (
            max((self.seed - self.rest) / self.prompts, 0.0),
            max((self.prompt - self.rest) / self.seeds, 0.0),
            self.rest,
        )

    def tests(self) -> list[tuple[float, float]]:
        """The standard errors of the mean, each with its degrees of freedom. The mean has to pass all of them.

        One seed: over prompts. Several: over the means of the seeds, and over seeds and prompts as crossed random
        effects, SE^2 = (MS_seed + MS_prompt - MS_rest) / (seeds prompts), with the degrees of Satterthwaite 1946. By
        itself the first ignores that the prompts are a sample; the second finds too much with two or three seeds
        (docs/sweeps.md has the rates).
        """
        count = self.seeds * self.prompts
        if self.seeds == 1:
            return [(math.sqrt(self.prompt / count), self.prompts - 1)]
        both = max(self.seed + self.prompt - self.rest, self.seed, self.prompt)
        own = self.seeds - 1, self.prompts - 1
        noise = self.seed**2 / own[0] + self.prompt**2 / own[1] + self.rest**2 / (own[0] * own[1])
        degrees = max(both**2 / noise, 1.0) if noise else 1.0
        return [(math.sqrt(self.seed / count), own[0]), (math.sqrt(both / count), degrees)]


@dataclass(frozen=True, slots=True)
class Contrast:
    """The mean of values by seed and prompt, and how sure it is."""

    interval: Estimate
    """95 %; its count is of the seeds, or of the prompts where there is one seed."""
    error: float
    """Standard error, over seeds and prompts."""
    p: float
    """Two-sided p-value of a mean of 0."""
    squares: MeanSquares

    @property
    def mean(self) -> float:
        """The mean."""
        return self.interval.mean

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.interval.low


def contrast(values: Mapping[int, Mapping[int, float]]) -> Contrast | None:
    """The mean of values by seed and prompt, over the prompts of all seeds; None for fewer than two prompts."""
    prompts = sorted(set.intersection(*({*row} for row in values.values()))) if values else []
    if len(prompts) < 2:
        return None
    squares = _mean_squares([[row[prompt] for prompt in prompts] for _, row in sorted(values.items())])
    mean = fmean(fmean(row[prompt] for prompt in prompts) for row in values.values())
    tests = squares.tests()
    half_width = max(error * exact_t_quantile(1 - LEVEL / 2, degrees) for error, degrees in tests)
    p = max(t_tail(mean / error, degrees) if error else float(mean == 0) for error, degrees in tests)
    count = len(values) if len(values) > 1 else len(prompts)
    return Contrast(Estimate(mean, half_width, count), max(error for error, _ in tests), p, squares)


def holm(ps: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Decide which of several hypotheses to reject: none of them wrongly, with probability 1 - `level` (Holm 1979)."""
    rejected = [False] * len(ps)
    for place, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        if ps[i] > level / (len(ps) - place):
            break
        rejected[i] = True
    return rejected


def optimism_of_best(errors: Sequence[float]) -> float:
    """By how much the highest of some estimates is too high on average, if all are equal in truth.

    `errors` are the standard errors of the differences of the highest from each of the others. The largest of n
    standard normals is on average about the normal quantile of (n - 3/8) / (n + 1/4) (Blom 1958).
    """
    count = len(errors) + 1
    spread = math.sqrt(fmean(error**2 for error in errors) / 2)
    return spread * NormalDist().inv_cdf((count - 0.375) / (count + 0.25))


def t_tail(t: float, degrees: float) -> float:
    """Probability that Student's t is further from 0 than `t`; `degrees` is 1 or more, and need not be whole."""
    if math.isnan(t):
        return 1.0
    # t = sqrt(degrees) / tan(angle): the density of the angle is that of sin^(degrees - 1)
    angle = math.atan2(math.sqrt(degrees), abs(t))
    norm = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(math.pi)

    def density(share: float) -> float:  # angle * share^2, so that it is smooth at 0
        return 2 * angle * share * math.pow(math.sin(angle * share**2), degrees - 1)

    return min(2 * math.exp(norm) * _integrate(density), 1.0)


@cache
def exact_t_quantile(probability: float, degrees: float) -> float:
    """Quantile of Student's t for a probability above 1/2; `degrees` need not be whole."""
    if degrees >= _MANY:
        return t_quantile(probability, degrees)
    low, high = 0.0, 1.0
    while t_tail(high, degrees) > 2 * (1 - probability):
        low, high = high, 2 * high
    while high - low > 1e-7 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, degrees) > 2 * (1 - probability) else (low, middle)
    return high


def _integrate(function: Callable[[float], float]) -> float:
    """The integral from 0 to 1, by Simpson's rule."""
    inner = math.fsum((4 if k % 2 else 2) * function(k / _PIECES) for k in range(1, _PIECES))
    return (function(0.0) + inner + function(1.0)) / (3 * _PIECES)


def _mean_squares(rows: Sequence[Sequence[float]]) -> MeanSquares:
    """The mean squares of an analysis of variance with one value a cell."""
    seeds, prompts = len(rows), len(rows[0])
    of_seed, of_prompt = [fmean(row) for row in rows], [fmean(column) for column in zip(*rows, strict=True)]
    mean = fmean(of_seed)
    prompt = seeds * math.fsum((one - mean) ** 2 for one in of_prompt) / (prompts - 1)
    if seeds == 1:
        return MeanSquares(seeds, prompts, 0.0, prompt, 0.0)
    seed = prompts * math.fsum((one - mean) ** 2 for one in of_seed) / (seeds - 1)
    left = (
        (value - of_seed[s] - of_prompt[p] + mean) ** 2 for s, row in enumerate(rows) for p, value in enumerate(row)
    )
    return MeanSquares(seeds, prompts, seed, prompt, math.fsum(left) / ((seeds - 1) * (prompts - 1)))
