"""Means over seeds and prompts, with intervals and tests that count both; Holm's rule for many of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Final

from rlhf_cli.evaluation.intervals import Estimate, t_quantile, t_tail

LEVEL: Final = 0.05
"""Two-sided level of every test: a 95 % interval."""


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


def contrast(values: Mapping[int, Mapping[int, float]]) -> Contrast | None:
    """The mean of values by seed and prompt, over the prompts of all seeds; None for fewer than two prompts."""
    prompts = sorted(set.intersection(*({*row} for row in values.values()))) if values else []
    if len(prompts) < 2:
        return None
    squares = _mean_squares([[row[prompt] for prompt in prompts] for _, row in sorted(values.items())])
    mean = fmean(fmean(row[prompt] for prompt in prompts) for row in values.values())
    tests = squares.tests()
    half_width = max(error * t_quantile(1 - LEVEL / 2, degrees) for error, degrees in tests)
    p = max(t_tail(mean / error, degrees) if error else float(mean == 0) for error, degrees in tests)
    count = len(values) if len(values) > 1 else len(prompts)
    return Contrast(Estimate(mean, half_width, count), max(error for error, _ in tests), p, squares)


def holm(ps: Sequence[float]) -> list[bool]:
    """Decide which of several hypotheses to reject: none of them wrongly, with probability 1 - LEVEL (Holm 1979)."""
    rejected = [False] * len(ps)
    for place, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        if ps[i] > LEVEL / (len(ps) - place):
            break
        rejected[i] = True
    return rejected


def optimism_of_best(errors: Sequence[float]) -> float:
    """The amount by which the highest of some estimates is too high on average, if all are equal in truth.

    `errors` are the standard errors of the differences of the highest from each of the others. The largest of n
    standard normals is on average about the normal quantile of (n - 3/8) / (n + 1/4) (Blom 1958).
    """
    count = len(errors) + 1
    spread = math.sqrt(fmean(error**2 for error in errors) / 2)
    return spread * NormalDist().inv_cdf((count - 0.375) / (count + 0.25))


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
