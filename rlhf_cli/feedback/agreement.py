"""Agreement of raters beyond chance: (observed - expected) / (1 - expected).

Two raters: Cohen 1960, where each has frequencies of their own. More raters: Fleiss 1971, where all share them.
"""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean


def cohen(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Kappa of two raters' categories for the same items; None where both always say the same one thing."""
    count = len(first)
    observed = fmean(a == b for a, b in zip(first, second, strict=True))
    left, right = Counter(first), Counter(second)
    expected = sum(left[category] * right[category] for category in left) / count**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def fleiss(items: Sequence[Sequence[str]]) -> float | None:
    """Kappa of the categories that the same number of raters, two at least, gave each item; None as above."""
    raters = len(items[0])
    observed = fmean(sum(n * (n - 1) for n in Counter(item).values()) / (raters * (raters - 1)) for item in items)
    totals = Counter(category for item in items for category in item)
    expected = sum((n / (len(items) * raters)) ** 2 for n in totals.values())
    return None if expected == 1 else (observed - expected) / (1 - expected)
