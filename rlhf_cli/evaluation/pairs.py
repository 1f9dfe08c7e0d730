"""Scores of chosen and rejected completions, against the votes: accuracy, reliability, calibration error.

For a pair with the difference of scores d = s(chosen) - s(rejected), Bradley and Terry (1952) predict that the chosen
completion wins with the probability sigmoid(d). Its share of the votes is in [0, 1]. Pairs count as independent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from rlhf_cli.evaluation.intervals import Interval, Share, wilson

BINS: Final = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """The pairs whose predictions are about equally sure, one or more."""

    count: int
    confidence: float
    """Mean predicted probability of the favoured completion."""
    right: Interval
    """Mean share of votes for the favoured completion."""


def pair_accuracy(differences: Sequence[float], shares: Sequence[float]) -> Share:
    """The share of pairs in which the completion with more votes has the higher score, with Wilson's interval.

    Equal scores count half. Ties of the votes do not count.
    """
    signs = [d * (share - 0.5) for d, share in zip(differences, shares, strict=True) if share != 0.5]
    if not signs:
        return wilson(math.nan, 0)
    return wilson(fmean((1 + (sign > 0) - (sign < 0)) / 2 for sign in signs), len(signs))


def reliability(differences: Sequence[float], shares: Sequence[float], bins: int = BINS) -> tuple[Bin, ...]:
    """Sort pairs by the confidence sigmoid(|d|) into bins of equal width from 0.5 to 1; none is empty.

    A bin holds its upper end; the first holds 0.5 too, for pairs of equal scores.
    """
    found: list[list[tuple[float, float]]] = [[] for _ in range(bins)]
    for d, share in zip(differences, shares, strict=True):
        confidence = 1 / (1 + math.exp(-abs(d)))
        place = max(0, math.ceil((confidence - 0.5) * 2 * bins) - 1)
        found[place].append((confidence, share if d > 0 else 1 - share if d < 0 else 0.5))
    return tuple(
        Bin(
            count=len(pairs),
            confidence=fmean(confidence for confidence, _ in pairs),
            right=Interval.of(wilson(fmean(right for _, right in pairs), len(pairs))),
        )
        for pairs in found
        if pairs
    )


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv:1706.04599, equation 3): sum_m n_m / n |right - confidence|.

    NaN without pairs. It is above 0 by chance too, the more so the fewer pairs a bin has.
    """
    if not bins:
        return math.nan
    off = math.fsum(one.count * abs(one.right.mean - one.confidence) for one in bins)
    return off / sum(one.count for one in bins)
