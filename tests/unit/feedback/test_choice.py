"""feedback.choice: chances that sum to one, and a prediction that learns."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from rlhf_cli.feedback.choice import EVERY, RANDOM, Prediction, draw, informative
from rlhf_cli.feedback.pairs import with_ids
from rlhf_cli.feedback.preference import Row
from tests.unit.feedback.samples import pairs_of


def test_informative_by_hand() -> None:
    """Reward differences 0 and 2 over their root mean square, sqrt 2: p = 1/2 and 1 / (1 + e^-sqrt2); equal lengths."""
    pairs = with_ids([Row("p", "x", "y", (1.0, 1.0)), Row("q", "x", "y", (1.0, -1.0))])
    p = 1 / (1 + math.exp(-math.sqrt(2)))
    spread = [0.5, math.sqrt(p * (1 - p))]
    expected = [RANDOM / 2 + (1 - RANDOM) * one / sum(spread) for one in spread]
    assert informative(Prediction(pairs).of([pair.id for pair in pairs])) == pytest.approx(expected)
    assert expected[0] > expected[1]


def test_the_prediction_learns_that_people_disagree_with_the_reward() -> None:
    pairs = pairs_of(40)
    prediction = Prediction(pairs)
    names = [pair.id for pair in pairs]
    before = prediction.of(names)
    assert before[0] > 0.5 > before[1]
    for number, pair in enumerate(pairs):
        prediction.learn(pair.id, float(number % 2))  # against the reward's sign
        if number == EVERY - 2:
            assert prediction.of(names) == before  # a fit every so often
    after = prediction.of(names)
    assert after[0] < 0.5 < after[1]


def test_the_fit_is_the_maximum_of_the_posterior() -> None:
    """One feature, the intercept: sum (y - p) - c = 0, since the prior's mean is 0 and its variance 1."""
    pairs = with_ids([Row(f"{n}", "x", "y", None) for n in range(40)])
    prediction = Prediction(pairs)
    for number, pair in enumerate(pairs):
        prediction.learn(pair.id, float(number % 4 == 0))
    (p,) = set(prediction.of([pairs[0].id]))
    assert 10 - 40 * p - math.log(p / (1 - p)) == pytest.approx(0.0, abs=1e-6)


def test_draws_have_their_chances() -> None:
    counts = Counter(draw({"x": 0.2, "y": 0.5, "z": 0.3}, seed) for seed in range(4000))
    for pair, chance in (("x", 0.2), ("y", 0.5), ("z", 0.3)):
        assert counts[pair] / 4000 == pytest.approx(chance, abs=0.03)


def test_rounding_leaves_no_draw_without_a_pair() -> None:
    assert draw({"x": 0.0, "y": 1e-12}, 1) == "y"
