"""Ranks, their correlation, and quantiles."""

import math
from collections.abc import Sequence
from itertools import groupby
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
    result, below = [0.0] * len(values), 0
    for _, group in groupby(sorted(range(len(values)), key=values.__getitem__), key=values.__getitem__):
        equal = list(group)
        for place in equal:
            result[place] = below + (len(equal) + 1) / 2
        below += len(equal)
    return result


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed, interpolated between neighbours; NaN without values."""
    if not values:
        return math.nan
    inner = sorted(values)
    place = share * (len(inner) - 1)
    below = math.floor(place)
    above = min(below + 1, len(inner) - 1)
    return inner[below] + (place - below) * (inner[above] - inner[below])
