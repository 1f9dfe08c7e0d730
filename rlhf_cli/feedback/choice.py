"""Choose the pair that is asked next, with a chance that is written beside the vote: the estimate needs it.

random       every pair that is left has the same chance.
informative  chances are larger where the interval would shrink most: with p the predicted probability that a is better,
             a vote's part in the estimate's variance is p (1 - p), so its best chance is proportional to
             sqrt(p (1 - p)) (Neyman 1934; Zrnic and Candes 2024, arXiv:2403.03208). A share RANDOM of every draw is
             uniform, so that no pair is out of reach and a wrong prediction costs votes, but no bias.

The prediction is a logistic regression on the differences of reward and length, with a normal prior, on the votes
before. It may be as wrong as it likes: see win_rate.py.
"""

import math
from collections.abc import Mapping, Sequence
from random import Random
from statistics import fmean
from typing import Final, Literal

from rlhf_cli.feedback.pairs import Pair

Choose = Literal["random", "informative"]
RANDOM: Final = 0.1
"""The uniform share of an informative draw."""
PRIOR: Final = (0.0, 1.0, 0.0)
"""Mean of the coefficients before any vote: people agree with the reward, and do not mind the length."""
EVERY: Final = 4
"""Votes between two fits."""
NEWTON: Final = 3
"""Steps of a fit, which begins where the last one ended."""

Features = tuple[float, float, float]


class Prediction:
    """Predicts the score of each pair from the votes that were cast before it was drawn."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        rewards = _scaled([pair.rewards[0] - pair.rewards[1] if pair.rewards else 0.0 for pair in pairs])
        lengths = _scaled([math.log((1 + len(pair.a)) / (1 + len(pair.b))) for pair in pairs])
        self._features: dict[str, Features] = {
            pair.id: (1.0, reward, length) for pair, reward, length in zip(pairs, rewards, lengths, strict=True)
        }
        self._coefficients: Features = PRIOR
        self._predicted: dict[str, float] = {}
        self._votes: list[tuple[Features, float]] = []

    def learn(self, pair: str, score: float) -> None:
        """Take a vote into account, from the next fit on."""
        self._votes.append((self._features[pair], score))
        if len(self._votes) % EVERY == 0:
            for _ in range(NEWTON):
                self._coefficients = _newton(self._coefficients, self._votes)
            self._predicted = {}

    def of(self, pairs: Sequence[str]) -> list[float]:
        """The predicted score of each pair, in (0, 1)."""
        if not self._predicted:
            self._predicted = {p: _probability(self._coefficients, f) for p, f in self._features.items()}
        return [self._predicted[pair] for pair in pairs]


def informative(predicted: Sequence[float]) -> list[float]:
    """The chance of each of the pairs that are left, from the score that is predicted for it; they sum to 1."""
    spread = [math.sqrt(p * (1 - p)) for p in predicted]
    total = math.fsum(spread)
    return [RANDOM / len(spread) + (1 - RANDOM) * one / total for one in spread]


def draw(chance: Mapping[str, float], seed: int) -> str:
    """One of the pairs, by its chance."""
    point = Random(seed).random()
    for pair, share in chance.items():
        point -= share
        if point < 0:
            return pair
    return pair  # rounding


def _scaled(values: Sequence[float]) -> list[float]:
    """The values over their root mean square, at most 3 in magnitude: an outlier must not rule the fit."""
    scale = math.sqrt(fmean(value * value for value in values)) if values else 0.0
    return [max(-3.0, min(3.0, value / scale)) if scale else 0.0 for value in values]


def _probability(coefficients: Features, features: Features) -> float:
    z = sum(c * f for c, f in zip(coefficients, features, strict=True))
    return 1 / (1 + math.exp(-max(-4.0, min(4.0, z))))  # never so sure that a vote could not teach better


def _newton(coefficients: Features, votes: Sequence[tuple[Features, float]]) -> Features:
    """One step of Newton's method on the log posterior, whose prior has variance 1."""
    gradient = [prior - c for c, prior in zip(coefficients, PRIOR, strict=True)]
    hessian = [[float(i == j) for j in range(3)] for i in range(3)]
    for features, score in votes:
        p = _probability(coefficients, features)
        weight = p * (1 - p)
        for i in range(3):
            gradient[i] += (score - p) * features[i]
            for j in range(3):
                hessian[i][j] += weight * features[i] * features[j]
    step = _solve(hessian, gradient)
    return coefficients[0] + step[0], coefficients[1] + step[1], coefficients[2] + step[2]


def _solve(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """Solve a positive definite 3 x 3 system by Cramer's rule."""

    def determinant(m: Sequence[Sequence[float]]) -> float:
        (a, b, c), (d, e, f), (g, h, i) = m
        return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)

    whole = determinant(matrix)
    columns = (
        [[right[row] if column == place else matrix[row][column] for column in range(3)] for row in range(3)]
        for place in range(3)
    )
    return [determinant(replaced) / whole for replaced in columns]
