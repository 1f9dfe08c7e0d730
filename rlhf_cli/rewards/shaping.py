"""Clip scores and subtract penalties; follow their mean and spread over a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlhf_cli.functional.returns import STD_EPSILON
from rlhf_cli.rewards.reward import Reward

if TYPE_CHECKING:
    from torch import Tensor


def shape(scores: Sequence[float], lengths: Sequence[int], truncated: Sequence[bool], reward: Reward) -> list[float]:
    """Clip the scores, then subtract the penalties for length and truncation.

    All lists have one value a completion; lengths are in tokens. Clipping comes first, so that no penalty is clipped
    away. The penalty for a missing end comes from arXiv:2009.01325; it is part of the score that training maximises.
    """
    low, high = reward.clip or (-math.inf, math.inf)
    penalty = reward.truncated_penalty if reward.truncated == "penalty" else 0.0
    return [
        min(max(score, low), high) - reward.length_penalty * length - penalty * is_cut
        for score, length, is_cut in zip(scores, lengths, truncated, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and variance of all scores so far (Welford 1962, in the form of Chan et al. 1979 for batches).

    Part of every checkpoint.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of the squared distances from the mean."""

    def observe(self, scores: Iterable[float]) -> Spread:
        """Return the spread with these scores added."""
        values = list(scores)
        if not values:
            return self
        count, mean = len(values), math.fsum(values) / len(values)
        squares = math.fsum((value - mean) ** 2 for value in values)
        total, distance = self.count + count, mean - self.mean
        return Spread(
            total,
            self.mean + distance * count / total,
            self.squares + squares + distance**2 * self.count * count / total,
        )

    @property
    def deviation(self) -> float:
        """The standard deviation of the scores so far, with n in the denominator, not n - 1."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def normalise(self, scores: Tensor) -> Tensor:
        """Return how many standard deviations each score lies above the mean: a tensor of the same shape."""
        return (scores - self.mean) / (self.deviation + STD_EPSILON)
