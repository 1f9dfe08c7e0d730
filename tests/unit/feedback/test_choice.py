"""feedback.choice: chances that sum to one, and a prediction that learns."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch.autograd.functional import hessian as hessian_of
from torch.autograd.functional import jacobian
from torch.nn.functional import softplus

from rlhf_cli.feedback.choice import NEWTON, Prediction, _newton, _scaled, draw, informative
from rlhf_cli.feedback.pairs import with_ids
from rlhf_cli.feedback.preference import Row
from tests.unit.feedback.samples import pairs_of


def test_informative_by_hand() -> None:
    """Reward differences 0 and 2 over their root mean square, sqrt 2: p = 1/2 and 1 / (1 + e^-sqrt2); equal lengths."""
    pairs = with_ids([Row("p", "x", "y", (1.0, 1.0)), Row("q", "x", "y", (1.0, -1.0))])
    p = 1 / (1 + math.exp(-math.sqrt(2)))
    spread = [0.5, math.sqrt(p * (1 - p))]
    expected = [0.05 + 0.9 * one / sum(spread) for one in spread]
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
        if number < 4:
            assert (prediction.of(names) == before) == (number < 3)  # a fit after every fourth vote
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


def test_a_step_of_newton_is_that_of_the_log_posterior_by_autograd() -> None:
    """log p = sum [y z - log(1 + e^z)] - |c - (0, 1, 0)|^2 / 2, with z = c f."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    scores = torch.randint(0, 3, (12,), generator=generator) / 2
    prior = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)

    def log_posterior(c: torch.Tensor) -> torch.Tensor:
        z = features @ c
        return (scores * z - softplus(z)).sum() - ((c - prior) ** 2).sum() / 2

    at = torch.tensor([0.3, -0.2, 0.4], dtype=torch.float64)
    gradient, hessian = (of(log_posterior, at) for of in (jacobian, hessian_of))
    expected = at - torch.linalg.solve(hessian, gradient)
    rows: list[tuple[float, float, float]] = [(a, b, c) for a, b, c in features.tolist()]
    found = _newton((0.3, -0.2, 0.4), list(zip(rows, scores.tolist(), strict=True)))
    assert found == pytest.approx(expected.tolist(), rel=1e-12)
    assert NEWTON == 3


def test_features_by_hand() -> None:
    """Rewards 2 - 5 = -3 and 4; log lengths log(2 / 4) and 0: each over its root mean square."""
    pairs = with_ids([Row("p", "x", "yyy", (2.0, 5.0)), Row("q", "xy", "yz", (3.0, -1.0)), Row("r", "x", "y", None)])
    rewards = [-3 / math.sqrt(25 / 3), 4 / math.sqrt(25 / 3), 0.0]
    lengths = [-math.sqrt(3), 0.0, 0.0]
    expected = [(1.0, reward, length) for reward, length in zip(rewards, lengths, strict=True)]
    features = Prediction(pairs)._features
    assert list(features) == [pair.id for pair in pairs]
    for found, known in zip(features.values(), expected, strict=True):
        assert found == pytest.approx(known)


def test_an_outlier_is_three_at_most() -> None:
    """Of 25 values of which one is not 0, the root mean square is a fifth of that one."""
    assert _scaled([10.0, *[0.0] * 24]) == [3.0, *[0.0] * 24]
    assert _scaled([-10.0, *[0.0] * 24]) == [-3.0, *[0.0] * 24]
    assert _scaled([0.0, 0.0]) == [0.0, 0.0]
    assert _scaled([]) == []


def test_a_prediction_is_never_so_sure_that_a_vote_could_not_teach_better() -> None:
    pairs = with_ids([Row("p", "x", "y", (9.0, 0.0)), Row("q", "x", "y", (0.0, 9.0))])
    prediction = Prediction(pairs)
    prediction._coefficients = (0.0, 9.0, 0.0)
    sure = 1 / (1 + math.exp(-4))
    assert prediction.of([pair.id for pair in pairs]) == pytest.approx([sure, 1 - sure])
