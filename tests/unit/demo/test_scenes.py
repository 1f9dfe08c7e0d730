"""The scenes show what the lecture says they show."""

from __future__ import annotations

import math

import pytest
import torch

from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.charts.pictures import Series
from rlhf_cli.demo import clipping, trick, tuning
from rlhf_cli.demo.ascent import ascend, curve
from rlhf_cli.demo.climb import roll_out
from rlhf_cli.demo.soup import BETA, RESPONSES, expected_reward, policy_of, probabilities, toy
from rlhf_cli.demo.toy_example import ALGORITHMS

SCORES = torch.tensor([response.score for response in RESPONSES], dtype=torch.float64)
REFERENCE = torch.tensor([response.probability for response in RESPONSES], dtype=torch.float64)


@pytest.fixture(scope="module")
def errors() -> dict[str, Series]:
    problem = toy(0.0)
    rollouts = {
        n: [roll_out(problem, problem.engine(), 1, n, "reward", False, seed, 0) for seed in range(6)]
        for n in trick.SIZES
    }
    return {
        name: trick.errors(name, problem, rollouts, a)
        for name, a in (("without", trick.PLAIN), ("with", trick.WITH_BASELINE))
    }


def test_the_exact_gradient_is_the_one_on_paper() -> None:
    # d E[r] / d z_y = pi(y) (r(y) - E[r]) for softmax logits z
    expected = REFERENCE * (SCORES - REFERENCE @ SCORES)
    assert torch.allclose(trick.exact_gradient(toy(0.0)).flatten(), expected)


def test_sigma_is_the_one_on_paper() -> None:
    # E |r (e_y - pi) - g|^2 / |g|^2, written out
    gradient = REFERENCE * (SCORES - REFERENCE @ SCORES)
    directions = torch.eye(6, dtype=torch.float64) - REFERENCE
    for baseline in (0.0, 0.6):
        square = REFERENCE @ ((SCORES - baseline).unsqueeze(1) * directions - gradient).square().sum(1)
        sigma = float((square / gradient.square().sum()).sqrt())
        assert trick.one_sample_error(toy(0.0), baseline) == pytest.approx(sigma)


def test_the_estimate_is_the_mean_over_its_own_samples() -> None:
    problem = toy(0.0)
    scored, longer = (roll_out(problem, problem.engine(), 1, n, "reward", False, 0, 0) for n in (5, 8))
    assert torch.equal(scored.rollout.tokens, longer.rollout.tokens[:5])  # a larger rollout begins with the smaller
    tokens = scored.rollout.tokens.flatten()
    assert len(tokens) == len(scored.scores) == len(scored.rollout.texts) == 5
    directions = torch.eye(6, dtype=torch.float64)[tokens] - REFERENCE
    expected = (SCORES[tokens].unsqueeze(1) * directions).mean(0)
    assert torch.allclose(trick.estimate(problem, scored, trick.PLAIN).flatten(), expected)


def test_the_error_falls_like_one_over_the_root_of_n(errors: dict[str, Series]) -> None:
    rms = dict(zip(errors["without"].xs, errors["without"].ys, strict=True))
    assert rms[4096] < rms[64] / 4  # the law says / 8
    sigma = trick.one_sample_error(toy(0.0), 0.0)
    # over all sizes together, where the six repetitions' own noise averages out
    ratios = [math.log(value / (sigma / math.sqrt(n))) for n, value in rms.items()]
    assert abs(sum(ratios) / len(ratios)) < 0.25


def test_a_baseline_removes_noise(errors: dict[str, Series]) -> None:
    assert errors["with"].xs[0] == 2  # the mean of the others needs another
    assert all(b < a / 2 for a, b in zip(errors["without"].ys[1:], errors["with"].ys, strict=True))


def test_the_climb_ends_at_the_optimum() -> None:
    run = ascend(ALGORITHMS["mean of the others (RLOO)"], BETA, 100, 0)
    assert 99 < run.percent <= 100
    assert run.policy[0] == pytest.approx(REFERENCE.tolist())
    assert run.policy[-1] == pytest.approx(toy(BETA).optimum().exp().flatten().tolist(), abs=0.03)
    assert run.objective[-1] == pytest.approx(run.reward - BETA * run.kl)


def test_without_the_reference_it_runs_after_the_score() -> None:
    run = ascend(Rloo(kind="rloo"), 0.0, 60, 0)
    assert math.isnan(run.percent)
    assert run.reward > 0.85 > toy(BETA).engine().all_completions().logprobs.exp().flatten() @ SCORES
    assert run.kl > 1


def test_a_curve_has_the_range_of_its_runs() -> None:
    runs = [ascend(Rloo(kind="rloo"), BETA, 2, seed) for seed in (0, 1)]
    series = curve("a", runs, 1)
    assert list(series.xs) == [0, 1]
    a, b = (run.objective[1] for run in runs)
    assert a != b
    assert series.low is not None
    assert series.high is not None
    assert (series.low[1], series.ys[1], series.high[1]) == (min(a, b), (a + b) / 2, max(a, b))


@pytest.mark.parametrize(
    ("ratio", "advantage", "value"),
    [
        (0.5, 1.0, 0.5),  # min(0.5, 0.8)
        (1.0, 1.0, 1.0),
        (1.5, 1.0, 1.2),  # min(1.5, 1.2)
        (0.5, -1.0, -0.8),  # min(-0.5, -0.8)
        (1.0, -1.0, -1.0),
        (1.5, -1.0, -1.5),  # min(-1.5, -1.2)
        (0.0, 1.0, 0.0),
    ],
)
def test_the_clipped_surrogate(ratio: float, advantage: float, value: float) -> None:
    assert clipping.surrogate(ratio, advantage) == pytest.approx(value)


def test_only_later_updates_of_a_rollout_are_clipped() -> None:
    once, often = (ascend(clipping.ppo(epochs), BETA, 4, 0) for epochs in (1, 16))
    assert list(once.clip_fraction) == [0.0] * 4
    assert max(often.clip_fraction) > 0
    assert often.percent > once.percent


def test_a_weaker_beta_buys_more_reward_for_more_distance() -> None:
    points = [tuning.optimum_at(beta)[:2] for beta in (1.0, 0.1, 0.02)]
    assert points == sorted(points)
    reward, kl, policy = tuning.optimum_at(BETA)
    assert reward - BETA * kl == pytest.approx(toy(BETA).best())
    assert sum(policy) == pytest.approx(1)


def test_entropy() -> None:
    assert tuning.entropy([0.5, 0.5, 0.0]) == pytest.approx(math.log(2))


def test_a_policy_stands_where_it_is_put() -> None:
    engine = policy_of(REFERENCE.flip(0).log())
    assert probabilities(engine) == pytest.approx(REFERENCE.flip(0).tolist())
    assert expected_reward(engine) == pytest.approx(float(REFERENCE.flip(0) @ SCORES))
