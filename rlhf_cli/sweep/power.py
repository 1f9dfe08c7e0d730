"""Calculate how much more of what would show a gain as large as the one seen: prompts, seeds, or steps."""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from rlhf_cli.evaluation.contrasts import LEVEL, Contrast, MeanSquares
from rlhf_cli.evaluation.intervals import t_quantile

POWER: Final = 0.8
"""Share of such sweeps that would show the gain."""
MOST_PROMPTS: Final = 100_000
MOST_SEEDS: Final = 1_000
MOST_GROWTH: Final = 20
"""Times as many steps over which a gain may be thought to grow in proportion."""


@dataclass(frozen=True, slots=True)
class Needed:
    """Prompts, seeds and steps that would show a gain in four of five sweeps: each alone, with the rest as it was."""

    gain: float
    """The gain that is to be shown: the best one seen."""
    least_gain: float
    """The least gain that the sweep as it was would have shown."""
    prompts: int | None
    """None where no number of prompts would do."""
    seeds: int | None
    """None where no number of seeds would do, or where one seed cannot tell how much they differ."""
    steps: int | None
    """If the gain grew in proportion to the steps; None where it is not above 0, or would have to grow too long."""


def calculate_needed(gain: Contrast, points: int, steps: int) -> Needed:
    """Calculate the prompts, seeds or steps that would show this gain as one of `points`, after as many `steps`.

    A gain is shown where it is at least (t + z) standard errors: t is the quantile of the test at the level of Holm's
    first step, 0.05 / points, z that of the power (the sample size formula for normal means: Lachin 1981). The
    standard error of another design follows from the variances between seeds, between prompts, and of the rest, which
    are estimated by the analysis of variance of this one.
    """
    squares, mean = gain.squares, gain.interval.mean
    least = _least_gain(squares, squares.seeds, squares.prompts, points)
    if mean <= 0:
        return Needed(mean, least, None, None, None)
    prompts = _fewest(lambda n: _least_gain(squares, squares.seeds, n, points) <= mean, MOST_PROMPTS)
    seeds = None
    if squares.seeds > 1:
        seeds = _fewest(lambda n: _least_gain(squares, n, squares.prompts, points) <= mean, MOST_SEEDS)
    growth = max(least / mean, 1.0)
    return Needed(mean, least, prompts, seeds, math.ceil(steps * growth) if growth <= MOST_GROWTH else None)


def _least_gain(seen: MeanSquares, seeds: int, prompts: int, points: int) -> float:
    """The least gain that a design shows, in the units of the gain."""
    of_seed, of_prompt, rest = seen.parts()
    expected = MeanSquares(seeds, prompts, rest + prompts * of_seed, rest + seeds * of_prompt, rest)
    z = NormalDist().inv_cdf(POWER)
    return max(error * (t_quantile(1 - LEVEL / points / 2, degrees) + z) for error, degrees in expected.tests())


def _fewest(is_enough: Callable[[int], bool], most: int) -> int | None:
    """The least number from 2 to `most` that is enough, where every larger one is so too; None without one."""
    return bisect_left(range(2, most), True, key=is_enough) + 2 if is_enough(most) else None
