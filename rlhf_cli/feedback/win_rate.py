"""The win rate of a over b that votes show: ties and pairs that are both bad count half, skipped pairs do not count.

Identical completions are ties that nobody is asked about. The other pairs are drawn one after the other; draw t takes
pair i_t out of the pairs R_t that are left with the chance q_t(i_t). With any prediction f_t from the votes before,

    z_t = [ sum_{seen} y_i + sum_{i in R_t} f_t(i) + (y_{i_t} - f_t(i_t)) / q_t(i_t) ] / N

has the mean of all N scores as its expected value, whatever the draws before were: the ordered estimator of Des Raj
(1956), with the prediction of the difference estimator (Cassel, Sarndal and Wretman 1976; for labels of people Zrnic
and Candes 2024, arXiv:2403.03208). So the z_t are uncorrelated: sum_t w_t z_t is unbiased for weights that are fixed
beforehand, here w_t ~ 1 / |R_t|^2, and sum_t w_t^2 (z_t - mean)^2 estimates its variance. Where all chances were equal,
the estimate is simply the mean of the votes.

The interval is for the prompts that these are a sample of, as all intervals here: mean (1 - mean) / N is added to the
variance. It is Wilson's, for as many observations as have that variance: n votes of equal chances are n observations.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Final

from rlhf_cli.evaluation.intervals import Share, t_quantile, wilson
from rlhf_cli.feedback.choice import Prediction, informative
from rlhf_cli.feedback.pairs import Pair
from rlhf_cli.feedback.votes import Standing

NORMAL: Final = NormalDist().inv_cdf(0.975)
EQUAL: Final = 1e-9
"""A chance is one in a whole number up to this share of it."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """The mean score of `size` pairs, from one rater's votes on `count` of them."""

    mean: float
    """Unbiased, so it may lie outside of [0, 1] by chance."""
    variance: float
    """The variance of the mean, about the mean of all the pairs' scores."""
    count: int
    size: int
    quantile: float
    """The quantile of the standardised error, for a 95 % interval."""


def win_rate(raters: Mapping[str, Standing], pairs: Sequence[Pair]) -> Share:
    """The share of prompts on which a wins, with its 95 % interval; all raters weigh alike."""
    asked = [pair for pair in pairs if not pair.is_same]
    found = [one for standing in raters.values() if (one := estimate(standing, asked)) is not None]
    return combine(found, same=len(pairs) - len(asked)) if found else wilson(math.nan, 0)


def reward_agreement(raters: Mapping[str, Standing], pairs: Sequence[Pair]) -> Share | None:
    """The share of pairs on which people prefer the completion with the higher reward; ties count half.

    Pairs of equal rewards do not count. None where no vote is on another pair.
    """
    asked = [pair for pair in pairs if not pair.is_same]
    signs = {pair.id: _sign(pair.rewards) for pair in asked}
    found = [one for standing in raters.values() if (one := estimate(standing, asked, signs)) is not None]
    return combine(found, same=0) if found else None


def is_random(standing: Standing) -> bool:
    """Whether each of a rater's votes is on a pair that was as likely as all others: one in a whole number."""
    return all(abs(round(1 / vote.chance) * vote.chance - 1) < EQUAL for vote in standing.valid.values())


def estimate(standing: Standing, pairs: Sequence[Pair], signs: Mapping[str, int] | None = None) -> Estimated | None:
    """The mean score of the pairs from one rater's votes; None without a vote that counts.

    `signs` of -1 turn a pair's score around, and leave out pairs of sign 0.
    """
    sign = signs or {pair.id: 1 for pair in pairs}
    votes = [
        0.5 + sign[pair] * (vote.score - 0.5)
        for pair, vote in standing.valid.items()
        if vote.score is not None and sign.get(pair, 0)
    ]
    count, size = len(votes), sum(map(abs, sign.values()))
    if not votes:
        return None
    if is_random(standing) or count < 2:
        mean = fmean(votes)
        return Estimated(mean, _spread(mean, count) * max(0.0, 1 / count - 1 / size), count, size, NORMAL)
    weights, values = zip(*_ordered(standing, pairs, sign), strict=True)
    mean = math.fsum(w * z for w, z in zip(weights, values, strict=True))
    squares = math.fsum((w * (z - mean)) ** 2 for w, z in zip(weights, values, strict=True))
    variance = squares * len(values) / (len(values) - 1)
    return Estimated(mean, variance, count, size, t_quantile(0.975, len(values) - 1))


def _ordered(standing: Standing, pairs: Sequence[Pair], sign: Mapping[str, int]) -> list[tuple[float, float]]:
    """The weight w_t and the value z_t of each draw; the weights sum to 1.

    A pair without a vote that counts is as if it had never been there. Given that a draw is of another pair, the chance
    of that one was larger: q_t(i) / (1 - q_t of the pairs that will turn out to be without a vote). Pairs that came
    to the end of the file after a draw are no part of its z_t, whose mean is that of the pairs before them.
    """
    scores = {pair: vote.score for pair, vote in standing.valid.items() if vote.score is not None}
    left = {pair.id: None for pair in pairs}
    unknown = [pair for pair in standing.drawn if pair in left and pair not in scores]
    for pair in unknown:
        del left[pair]
    names = [pair.id for pair in pairs]
    prediction, seen, counted, draws = Prediction(pairs), 0.0, 0, list[tuple[float, float]]()

    def turned(pair: str, score: float) -> float:
        return abs(sign[pair]) * 0.5 + sign[pair] * (score - 0.5)

    for pair, first in standing.drawn.items():
        if pair in unknown:
            unknown.remove(pair)
        elif pair in left:
            then = {*names[: first.of]} | {pair}
            there, skipped = [p for p in left if p in then], [p for p in unknown if p in then]
            predicted = {p: turned(p, f) for p, f in zip(there, prediction.of(there), strict=True)}
            chance = min(1.0, first.chance / (1 - _share_of(skipped, there, first.chance, prediction)))
            score = turned(pair, scores[pair])
            if size := counted + sum(abs(sign[p]) for p in there):
                value = (seen + math.fsum(predicted.values()) + (score - predicted[pair]) / chance) / size
                draws.append((1 / len(there) ** 2, value))
            seen, counted = seen + score, counted + abs(sign[pair])
            prediction.learn(pair, scores[pair])
            del left[pair]
    total = math.fsum(weight for weight, _ in draws)
    return [(weight / total, value) for weight, value in draws]


def _share_of(unknown: Sequence[str], left: Sequence[str], chance: float, prediction: Prediction) -> float:
    """The chance that a draw was of one of the `unknown` pairs, when a pair of `left` was drawn with this `chance`."""
    every = [*unknown, *left]
    if abs(chance * len(every) - 1) < EQUAL:  # a random draw, or all pairs were alike
        return len(unknown) / len(every)
    return math.fsum(informative(prediction.of(every))[: len(unknown)])


def combine(found: Sequence[Estimated], same: int) -> Share:
    """Raters' estimates of the same pairs as one, with `same` more pairs that are ties by nature."""
    size = found[0].size + same
    differ = found[0].size / size
    mean, count = max(0.0, min(1.0, fmean(one.mean for one in found))), fmean(one.count for one in found)
    among = differ * _spread(mean, count) + differ * (1 - differ) * (mean - 0.5) ** 2
    variance = differ**2 * math.fsum(one.variance for one in found) / len(found) ** 2 + among / size
    whole = (1 - differ) / 2 + differ * mean
    return wilson(whole, _spread(whole, count) / variance, max(one.quantile for one in found))


def _spread(mean: float, count: float) -> float:
    """The variance of one score, at most. The mean is drawn to 1/2 by four votes (Agresti and Coull 1998)."""
    mean = (count * mean + 2) / (count + 4)
    return mean * (1 - mean)


def _sign(rewards: tuple[float, float] | None) -> int:
    return 0 if rewards is None else (rewards[0] > rewards[1]) - (rewards[0] < rewards[1])
