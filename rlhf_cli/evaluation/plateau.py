"""Whether the held-out objective still grows: a bound that holds however often it is looked at.

At every evaluation the gain of the second half of the run so far is estimated, paired by prompt, with an upper bound
of the level 1 - LEVEL / (j (j + 1)) at the j-th look. What these levels leave out adds up to LEVEL, so that all bounds
hold at once with the probability 1 - LEVEL, however many looks there are: a confidence sequence by the union bound
(Darling and Robbins 1967; Howard et al. 2021, arXiv:1810.08240). It assumes that the held-out prompts are a sample of
their own, and that the mean of their gains is about normal. It assumes nothing about how evaluations depend on one
another: they share prompts and random streams, so that their increments are no martingale, which the other sequences
of that paper need.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from rlhf_cli.evaluation.evaluation import Evaluation, pair
from rlhf_cli.evaluation.intervals import standard_error, t_quantile

LEVEL: Final = 0.05
"""Probability that any bound of a run is too low."""
LEAST: Final = 4
"""Evaluations after a step before the first look."""


@dataclass(frozen=True, slots=True)
class Gain:
    """The gain of the held-out objective from one evaluation to another."""

    since: int
    """The step of the earlier evaluation."""
    step: int
    mean: float
    upper: float
    """Not too low at any look of the run, with the probability 1 - LEVEL."""


def latest_gain(evaluations: Sequence[Evaluation]) -> Gain | None:
    """The gain since the middle one of a run's evaluations, of which the first is that of the untouched policy.

    Both are compared at the beta of the later one. None before LEAST of them, or without two common prompts.
    """
    looks = len(evaluations) - LEAST
    if looks < 1:
        return None
    before, after = pair(evaluations[(len(evaluations) - 1) // 2], evaluations[-1])
    if len(before.prompts) < 2:
        return None
    old, new = before.objective(after.beta), after.objective(after.beta)
    mean, upper = bound([n - o for n, o in zip(new, old, strict=True)], looks)
    return Gain(before.step, after.step, mean, upper)


def bound(gains: Sequence[float], look: int) -> tuple[float, float]:
    """The mean of the gains of two prompts or more, and its upper bound at the `look`-th look, from 1 on."""
    mean = fmean(gains)
    quantile = t_quantile(1 - LEVEL / (look * (look + 1)), len(gains) - 1)
    return mean, mean + quantile * standard_error(gains)
