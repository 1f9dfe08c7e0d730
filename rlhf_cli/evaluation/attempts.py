"""pass@k and majority@k: the success of several attempts at a prompt, where a completion is right or wrong."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from math import comb
from random import Random
from statistics import fmean
from typing import Final

MOST: Final = 5000
"""Subsets that are gone through; of more, as many random ones stand in."""


def sizes(total: int) -> list[int]:
    """The numbers of attempts to report: 1, 2, 4, ... and all of them."""
    return sorted({*(2**power for power in range(total.bit_length())), total})


def pass_at_k(right: Sequence[bool], k: int) -> float:
    """The chance that one of k of the completions is right, over all choices of k: unbiased (arXiv:2107.03374)."""
    wrong = len(right) - sum(right)
    return 1 - comb(wrong, k) / comb(len(right), k)


def majority_at_k(answers: Sequence[str | None], right: Sequence[bool], k: int) -> float:
    """The chance that the most frequent answer of k of the completions is right (arXiv:2203.11171).

    Answers that are equally frequent have the same chance to be taken; a completion without one does not vote.
    """
    return fmean(_majority([answers[i] for i in chosen], [right[i] for i in chosen]) for chosen in _choices(right, k))


def _choices(right: Sequence[bool], k: int) -> Iterator[Sequence[int]]:
    if comb(len(right), k) <= MOST:
        yield from combinations(range(len(right)), k)
        return
    draw = Random(0)
    yield from (draw.sample(range(len(right)), k) for _ in range(MOST))


def _majority(answers: Sequence[str | None], right: Sequence[bool]) -> float:
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    tops = [answer for answer, count in votes.items() if count == most]
    return fmean(fmean(r for answer, r in zip(answers, right, strict=True) if answer == top) for top in tops)
