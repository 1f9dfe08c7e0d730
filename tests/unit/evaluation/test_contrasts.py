"""Means over seeds and prompts, by hand and by the tables."""

from __future__ import annotations

import math
import random

import pytest

from rlhf_cli.evaluation.contrasts import MeanSquares, contrast, holm, optimism_of_best
from rlhf_cli.evaluation.intervals import t_quantile, t_tail


def test_several_seeds_by_hand() -> None:
    # rows 1 3 2 and 5 7 9: seeds' means 2 and 7, prompts' 3, 5, 5.5, mean 4.5
    found = contrast({0: {0: 1.0, 1: 3.0, 2: 2.0}, 1: {0: 5.0, 1: 7.0, 2: 9.0, 9: 100.0}})
    assert found is not None
    squares = found.squares
    # 3 (2.5^2 + 2.5^2); 2 (1.5^2 + 0.5^2 + 1^2) / 2; the rest: 0.5, 0.5, -1 and their opposites, over 2
    assert (squares.seed, squares.prompt, squares.rest) == pytest.approx((37.5, 3.5, 1.5))
    # of the seeds' means: 2.5, t(1); crossed: sqrt(39.5 / 6), and 39.5^2 / (37.5^2 + 3.5^2 / 2 + 1.5^2 / 2) degrees
    (seeds, one), (crossed, degrees) = squares.tests()
    assert (seeds, one, crossed) == pytest.approx((2.5, 1, math.sqrt(39.5 / 6)))
    assert degrees == pytest.approx(39.5**2 / (37.5**2 + 3.5**2 / 2 + 1.5**2 / 2))
    # the wider of both
    assert found.interval.half_width == pytest.approx(max(12.7062 * 2.5, t_quantile(0.975, degrees) * crossed))
    assert found.p == pytest.approx(max(t_tail(4.5 / 2.5, 1), t_tail(4.5 / crossed, degrees)))
    assert (found.interval.mean, found.error) == pytest.approx((4.5, math.sqrt(39.5 / 6)))


def test_the_mean_squares_of_three_seeds_by_hand() -> None:
    # rows 1 2, 3 4 and 5 9: seeds' means 1.5, 3.5, 7, prompts' 3 and 5, mean 4
    found = contrast({0: {0: 1.0, 1: 2.0}, 1: {0: 3.0, 1: 4.0}, 2: {0: 5.0, 1: 9.0}})
    assert found is not None
    # 2 (2.5^2 + 0.5^2 + 3^2) / 2; 3 (1 + 1); the rest: 0.5 at two seeds, -1 at the third, and their opposites, over 2
    assert found.squares == MeanSquares(3, 2, pytest.approx(15.5), pytest.approx(6.0), pytest.approx(1.5))


def test_the_variances_come_back() -> None:
    found = contrast({0: {0: 1.0, 1: 3.0, 2: 2.0}, 1: {0: 5.0, 1: 7.0, 2: 9.0}})
    assert found is not None
    assert found.squares.parts() == pytest.approx(((37.5 - 1.5) / 3, (3.5 - 1.5) / 2, 1.5))


def test_fewer_than_two_prompts_are_no_contrast() -> None:
    assert contrast({}) is None
    assert contrast({0: {0: 1.0, 1: 2.0}, 1: {1: 1.0, 2: 2.0}}) is None


def test_no_spread_at_all_is_sure() -> None:
    same, none = contrast({0: {0: 1.0, 1: 1.0}}), contrast({0: {0: 0.0, 1: 0.0}, 1: {0: 0.0, 1: 0.0}})
    assert same is not None
    assert none is not None
    assert (same.p, same.interval.low, none.p) == (0.0, 1.0, 1.0)


def test_holms_rule_by_hand() -> None:
    # 0.01 <= 0.05 / 3; 0.02 <= 0.05 / 2; 0.06 > 0.05
    assert holm([0.06, 0.01, 0.02]) == [False, True, True]
    # 0.03 > 0.05 / 2 stops it, though 0.04 <= 0.05
    assert holm([0.01, 0.04, 0.03]) == [True, False, False]
    assert holm([]) == []
    assert holm([0.05]) == [True]  # the level itself is enough


def test_the_best_of_equals_is_too_high_by_what_was_drawn() -> None:
    # differences with an error of sqrt(2) are of estimates with an error of 1; the largest of 16 has the mean 1.766
    assert optimism_of_best([math.sqrt(2)] * 15) == pytest.approx(1.766, abs=0.01)
    # errors of 1 and 7 have the mean square 25, and a half of it is that of the estimates
    assert optimism_of_best([1.0, 7.0]) == pytest.approx(5 / math.sqrt(2) * optimism_of_best([math.sqrt(2)] * 2))


def test_equal_points_whose_seeds_differ_are_seldom_called_different() -> None:
    # over prompts alone it is every third of these: the seeds differ by as much as the prompts
    draw, wrong = random.Random(0), 0
    for _ in range(200):
        prompts = [draw.gauss(0, 0.1) for _ in range(16)]
        rows = {
            seed: {p: own + shift + draw.gauss(0, 0.2) for p, own in enumerate(prompts)}
            for seed, shift in enumerate(draw.gauss(0, 0.1) for _ in range(3))
        }
        found = contrast(rows)
        assert found is not None
        wrong += found.p <= 0.05
    assert wrong <= 16  # of 200: 5 % and two standard deviations


def test_an_interval_counts_its_seeds_or_the_prompts_of_one_seed() -> None:
    row = {0: 0.1, 1: 0.3, 2: 0.2}
    one, two = contrast({0: row}), contrast({0: row, 1: row})
    assert one is not None
    assert two is not None
    assert (one.interval.count, two.interval.count) == (3, 2)
    assert one.squares == MeanSquares(1, 3, 0.0, pytest.approx(0.01), 0.0)
    # of one seed the error is over prompts, with t(2)
    assert one.squares.tests() == [(pytest.approx(0.1 / math.sqrt(3)), 2)]
    assert one.interval.half_width == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-5)


@pytest.mark.parametrize(
    ("squares", "parts"),
    [
        (MeanSquares(3, 4, seed=9.0, prompt=4.0, rest=1.0), (2.0, 1.0, 1.0)),
        (MeanSquares(3, 4, seed=1.0, prompt=4.0, rest=2.0), (0.0, pytest.approx(2 / 3), 2.0)),  # no variance below 0
        (MeanSquares(3, 4, seed=9.0, prompt=1.0, rest=5.0), (1.0, 0.0, 5.0)),
        (MeanSquares(1, 4, seed=0.0, prompt=4.0, rest=0.0), (0.0, 0.0, 4.0)),
    ],
)
def test_the_variances_that_seeds_and_prompts_add(squares: MeanSquares, parts: tuple[float, ...]) -> None:
    assert squares.parts() == parts


@pytest.mark.parametrize(
    ("squares", "both", "degrees"),
    [
        # 9 + 4 - 1 = 12
        (MeanSquares(3, 4, seed=9.0, prompt=4.0, rest=1.0), 12.0, 144 / (81 / 2 + 16 / 3 + 1 / 6)),
        # 1 + 4 - 2 and 9 + 1 - 5 are below what prompts, or seeds, have alone
        (MeanSquares(3, 4, seed=1.0, prompt=4.0, rest=2.0), 4.0, 16 / (1 / 2 + 16 / 3 + 4 / 6)),
        (MeanSquares(3, 4, seed=9.0, prompt=1.0, rest=5.0), 9.0, 81 / (81 / 2 + 1 / 3 + 25 / 6)),
        (MeanSquares(2, 2, seed=1.0, prompt=1.0, rest=1.0), 1.0, 1.0),  # never below one
        (MeanSquares(3, 4, seed=0.0, prompt=0.0, rest=0.0), 0.0, 1.0),  # nor where nothing varies
    ],
)
def test_the_error_over_seeds_and_prompts(squares: MeanSquares, both: float, degrees: float) -> None:
    count, seeds = squares.seeds * squares.prompts, math.sqrt(squares.seed / squares.seeds / squares.prompts)
    (alone, own), crossed = squares.tests()
    assert (alone, own) == (pytest.approx(seeds), squares.seeds - 1)
    assert crossed == pytest.approx((math.sqrt(both / count), degrees))
