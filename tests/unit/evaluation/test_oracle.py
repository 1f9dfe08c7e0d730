"""What the rewards of the reference's completions say of what training could reach."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from random import Random
from statistics import fmean

import pytest

from rlhf_cli.evaluation.best_of_n import best_of_n_kl, expected_best
from rlhf_cli.evaluation.optimum import frontier
from rlhf_cli.evaluation.oracle import Oracle, oracle
from rlhf_cli.evaluation.tilt import tilt

SOURCE = Random(0)
REWARDS = [[SOURCE.gauss(0.1 * prompt, 1.0) for _ in range(100)] for prompt in range(5)]


@pytest.fixture(scope="module")
def found() -> Oracle:
    return oracle(REWARDS, [0.5, 2.0], 1.0, 1.3)


def test_a_point_for_each_beta(found: Oracle) -> None:
    assert (found.prompts, found.samples, found.beta, found.temperature) == (5, 100, 1.0, 1.3)
    assert found.points == (frontier(REWARDS, 0.5), frontier(REWARDS, 2.0))


def test_best_of_n_doubles_until_the_samples_are_used_up(found: Oracle) -> None:
    assert [one.n for one in found.best_of] == [1, 2, 4, 8, 16, 32, 64]
    assert found.best_of[3].reward == pytest.approx(fmean(expected_best(r, 8) for r in REWARDS))
    assert found.best_of[3].kl == pytest.approx(fmean(best_of_n_kl(r, 8) for r in REWARDS))
    assert [one.n for one in oracle([[0.0, 1.0]], [1.0], 1.0, 1.0).best_of] == [1, 2]


def test_the_curve_goes_from_the_reference_to_the_best_completions(found: Oracle) -> None:
    first, *_, last = found.curve
    assert first.kl == pytest.approx(0.0, abs=1e-3)
    assert first.reward == pytest.approx(fmean(map(fmean, REWARDS)), abs=0.05)
    assert last.kl == pytest.approx(math.log(100), abs=0.1)
    assert last.reward == pytest.approx(fmean(map(max, REWARDS)), abs=0.01)
    kls = [point.kl for point in found.curve]
    assert kls == sorted(kls)


def test_the_points_of_the_curve_lie_a_constant_factor_apart(found: Oracle) -> None:
    """From ten times the spread of all rewards to a thousandth of it, in 60 points."""
    spread = max(map(max, REWARDS)) - min(map(min, REWARDS))
    assert len(found.curve) == 60
    for place, factor in ((0, 10.0), (59, 1e-3), (30, 10 ** (1 - 120 / 59))):
        tilts = [tilt(values, spread * factor) for values in REWARDS]
        assert found.curve[place].kl == pytest.approx(fmean(one.kl for one in tilts), rel=1e-9)
        assert found.curve[place].reward == pytest.approx(fmean(one.reward for one in tilts), rel=1e-9)


def test_nine_prompts_of_ten_are_enough() -> None:
    """The tenth has one completion in thirty that is better, which the end of the curve needs alone."""
    rewards = [[0.0] * 30] * 9 + [[0.0] * 29 + [1.0]]
    assert all(point.covered for point in oracle(rewards, [1.0], 1.0, 1.0).curve)
    assert not all(point.covered for point in oracle(rewards[1:], [1.0], 1.0, 1.0).curve)


def test_the_samples_cover_the_beginning_of_the_curve_alone(found: Oracle) -> None:
    covered = [point.covered for point in found.curve]
    assert covered == sorted(covered, reverse=True)
    assert any(covered)
    assert all(point.kl <= math.log(100) - 3 + 0.2 for point in found.curve if point.covered)
    assert not any(point.covered for point in found.curve if point.kl > 2)


def test_best_of_n_is_never_far_above_the_frontier(found: Oracle) -> None:
    for one in found.best_of[:5]:
        nearest = max((point for point in found.curve if point.kl <= one.kl + 0.05), key=lambda point: point.kl)
        assert one.reward < nearest.reward + 0.15


def test_equal_rewards_leave_nothing_to_gain() -> None:
    found = oracle([[0.5] * 30] * 2, [0.1], 0.1, 1.0)
    assert all(point.kl == pytest.approx(0.0, abs=1e-9) for point in found.curve)
    assert all(point.reward == pytest.approx(0.5) for point in found.curve)
    assert found.points[0].reason.startswith("the gap J* - J_ref is not clear of 0")


def test_it_is_plain_data(found: Oracle) -> None:
    read = json.loads(json.dumps(asdict(found)))
    assert read["points"][0]["beta"] == 0.5
    assert len(read["curve"]) == len(found.curve)
