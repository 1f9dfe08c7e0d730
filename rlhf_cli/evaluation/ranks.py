"""Ranks, their correlation, and quantiles."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from statistics import StatisticsError, correlation


def spearman(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Spearman's rank correlation in [-1, 1]: Pearson's of the ranks; equal values share a rank (Spearman 1904).

    0 where `xs` or `ys` does not vary, or there are fewer than two pairs.
    """
    try:
        return correlation(ranks(xs), ranks(ys))
    except StatisticsError:
        return 0.0


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of their ranks."""
    ordered = sorted(values)
    return [(bisect_left(ordered, value) + bisect_right(ordered, value) + 1) / 2 for value in values]


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed, interpolated between neighbours; NaN without values."""
    if not values:
        return math.nan
    inner = sorted(values)
    place = share * (len(inner) - 1)
    below = math.floor(place)
    above = min(below + 1, len(inner) - 1)
    return inner[below] + (place - below) * (inner[above] - inner[below])
