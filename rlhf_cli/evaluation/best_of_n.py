"""Best of n: draw n completions of the reference, and keep the one with the highest reward."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate


def expected_best(rewards: Sequence[float], n: int) -> float:
    """Mean of the best reward over every choice of `n` of the samples; unbiased for the best of n fresh samples.

    The i-th smallest of N is the best of n in C(i-1, n-1) of C(N, n) choices (Chen et al. 2021, arXiv:2107.03374, for
    two-valued rewards). Raises ValueError where there are fewer than `n` samples.
    """
    size = len(rewards)
    if not 1 <= n <= size:
        raise ValueError(f"the best of {n}, out of {size} samples")
    chance, mean = n / size, 0.0  # of the largest reward
    for place, reward in zip(range(size, 0, -1), sorted(rewards, reverse=True), strict=True):
        mean += chance * reward
        chance *= (place - n) / max(place - 1, 1)
    return mean


def best_of_n_kl(rewards: Sequence[float], n: int) -> float:
    """KL(best of n || reference) in nats, with the samples' rewards as the reference's distribution.

    sum_k D_k log(D_k / p_k), D_k = F_k^n - F_{k-1}^n, over the distinct rewards in order: p_k is the share of the k-th,
    F the cumulative share. It is never above log n - (n-1)/n: near it where many rewards are all different, below it
    where some are equal, since the reference chooses among equal completions.
    """
    counts = [count for _, count in sorted(Counter(rewards).items())]
    total, ends = len(rewards), list(accumulate(counts))
    kl = 0.0
    for count, end in zip(counts, ends, strict=True):
        share = (end / total) ** n - ((end - count) / total) ** n
        if share > 0:
            kl += share * math.log(share * total / count)
    return kl
