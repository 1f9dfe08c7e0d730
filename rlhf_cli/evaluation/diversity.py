"""Measure how varied and how repetitive texts are, by their words."""

from collections.abc import Sequence


def distinct(texts: Sequence[str], n: int) -> float:
    """Distinct n-grams over all n-grams of the texts together (Li et al. 2016, arXiv:1510.03055); 0 without any."""
    grams = [gram for text in texts for gram in _grams(text, n)]
    return len(set(grams)) / max(len(grams), 1)


def repetition(text: str, n: int = 4) -> float:
    """The share of n-grams that repeat an earlier one of the text (Welleck et al. 2020, arXiv:1908.04319)."""
    grams = _grams(text, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = text.lower().split()
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
