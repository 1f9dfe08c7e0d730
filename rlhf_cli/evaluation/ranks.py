"""Rank correlation; plain Python floats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import StatisticsError, correlation


def spearman(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Spearman's rank correlation in [-1, 1]: Pearson's of the ranks, equal values sharing theirs (Spearman 1904).

    0 where one of them does not vary, or there are fewer than two pairs.
    """
    try:
        return correlation(ranks(xs), ranks(ys))
    except StatisticsError:
        return 0.0


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1 on; equal values have the mean of the ranks that they take up."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    first = 0
    while first < len(order):
        last = first
        while last + 1 < len(order) and values[order[last + 1]] == values[order[first]]:
            last += 1
        for place in range(first, last + 1):
            found[order[place]] = (first + last) / 2 + 1
        first = last + 1
    return found


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values are at or below, interpolated between neighbours; NaN for none."""
    if not values:
        return math.nan
    inner = sorted(values)
    place = share * (len(inner) - 1)
    below = math.floor(place)
    above = min(below + 1, len(inner) - 1)
    return inner[below] + (place - below) * (inner[above] - inner[below])
