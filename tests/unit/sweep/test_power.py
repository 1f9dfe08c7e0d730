"""The prompts, seeds and steps that would show a gain, by hand."""

from __future__ import annotations

import pytest

from rlhf_cli.evaluation.contrasts import Contrast, MeanSquares, contrast
from rlhf_cli.evaluation.intervals import Estimate, t_quantile
from rlhf_cli.sweep.power import Needed, calculate_needed


def seen(mean: float, squares: MeanSquares) -> Contrast:
    return Contrast(Estimate(mean, 1.0, squares.seeds), 1.0, 1.0, squares)


def test_one_seed_needs_prompts() -> None:
    # a prompt's variance is 4: 400 prompts have an error of 0.1
    needed = calculate_needed(seen(0.1, MeanSquares(1, 400, 0.0, 4.0, 0.0)), 1, 10)
    assert needed.least_gain == pytest.approx((1.9659 + 0.8416) * 0.1, rel=1e-4)
    # the normal quantiles alone give (1.96 + 0.84)^2 4 / 0.1^2 = 3140
    assert needed.prompts == pytest.approx(3140, abs=4)
    assert needed.seeds is None
    assert needed.steps == 29  # 10 * 2.8075, rounded up


def test_a_gain_of_next_to_nothing_is_no_matter_of_steps() -> None:
    squares = MeanSquares(1, 400, 0.0, 4.0, 0.0)
    # 20 times 0.0141 is just above the least gain of 0.2807, 20 times 0.014 just below
    assert calculate_needed(seen(0.0141, squares), 1, 10).steps == 200
    assert calculate_needed(seen(0.014, squares), 1, 10).steps is None
    assert calculate_needed(seen(least_gain(squares) / 20, squares), 1, 10).steps == 200


def least_gain(squares: MeanSquares) -> float:
    """The least gain that a sweep with these mean squares shows."""
    return calculate_needed(seen(1.0, squares), 1, 10).least_gain


def test_a_gain_that_is_just_shown_needs_no_more() -> None:
    of_prompts, of_seeds = MeanSquares(1, 400, 0.0, 4.0, 0.0), MeanSquares(2, 10, 0.12, 0.1, 0.02)
    assert calculate_needed(seen(least_gain(of_prompts), of_prompts), 1, 10).prompts == 400
    needed = calculate_needed(seen(least_gain(of_seeds), of_seeds), 1, 10)
    assert (needed.prompts, needed.seeds, needed.steps) == (10, 2, 10)


def test_two_are_the_fewest() -> None:
    needed = calculate_needed(seen(1e6, MeanSquares(3, 10, 0.12, 0.14, 0.02)), 1, 10)
    assert (needed.prompts, needed.seeds) == (2, 2)


@pytest.mark.parametrize("count", [100_000, 100_001])
def test_more_than_a_hundred_thousand_prompts_are_too_many(count: int) -> None:
    gain = least_gain(MeanSquares(1, count, 0.0, 4.0, 0.0))
    needed = calculate_needed(seen(gain, MeanSquares(1, 400, 0.0, 4.0, 0.0)), 1, 10)
    assert needed.prompts == (count if count == 100_000 else None)


@pytest.mark.parametrize("count", [1000, 1001])
def test_more_than_a_thousand_seeds_are_too_many(count: int) -> None:
    # seeds add 1, prompts nothing, the rest 0.02: so many seeds are needed, and one less shows no such gain
    gain = (
        least_gain(MeanSquares(count, 10, 10.02, 0.02, 0.02))
        + least_gain(MeanSquares(count - 1, 10, 10.02, 0.02, 0.02))
    ) / 2
    needed = calculate_needed(seen(gain, MeanSquares(3, 10, 10.02, 0.02, 0.02)), 1, 10)
    assert needed.seeds == (count if count == 1000 else None)


def test_no_gain_at_all_is_not_confirmed_either() -> None:
    squares = MeanSquares(1, 400, 0.0, 4.0, 0.0)
    assert calculate_needed(seen(0.0, squares), 1, 10) == Needed(0.0, least_gain(squares), None, None, None)


def test_a_gain_that_would_be_shown_needs_no_more_steps_and_one_seed_says_nothing_of_seeds() -> None:
    needed = calculate_needed(seen(1.0, MeanSquares(1, 400, 0.0, 4.0, 0.0)), 1, 10)
    assert needed.least_gain < 1.0
    assert (needed.seeds, needed.steps) == (None, 10)


def test_holms_first_step_asks_for_more() -> None:
    needed = calculate_needed(seen(0.1, MeanSquares(1, 400, 0.0, 4.0, 0.0)), 5, 10)
    # z at 0.995 is 2.576: (2.576 + 0.842)^2 400
    assert needed.prompts == pytest.approx(4672, abs=8)


def test_seeds_that_differ_ask_for_seeds() -> None:
    # seeds add 0.01, prompts 0.04, the rest 0.02; mean squares with 3 seeds and 10 prompts
    squares = MeanSquares(3, 10, 0.02 + 10 * 0.01, 0.02 + 3 * 0.04, 0.02)
    assert squares.parts() == pytest.approx((0.01, 0.04, 0.02))
    needed = calculate_needed(seen(0.2, squares), 1, 10)
    assert needed.prompts is None  # 3 seeds alone have an error of 0.0577, and t(2) + z = 5.1
    assert needed.seeds is not None
    # that many, and no fewer, show it: the error is the root of 0.01 / n + 0.04 / 10 + 0.02 / 10 n
    both = MeanSquares(needed.seeds, 10, 0.12, 0.02 + needed.seeds * 0.04, 0.02).tests()
    assert max(error * (t_quantile(0.975, degrees) + 0.8416) for error, degrees in both) <= 0.2
    fewer = MeanSquares(needed.seeds - 1, 10, 0.12, 0.02 + (needed.seeds - 1) * 0.04, 0.02).tests()
    assert max(error * (t_quantile(0.975, degrees) + 0.8416) for error, degrees in fewer) > 0.2


def test_seeds_cannot_make_up_for_few_prompts() -> None:
    squares = MeanSquares(3, 4, 0.02, 0.02 + 3 * 0.04, 0.02)
    needed = calculate_needed(seen(0.1, squares), 1, 10)
    assert needed.seeds is None  # the prompts alone have an error of 0.1
    assert needed.prompts is not None


def test_no_gain_is_not_confirmed_by_more() -> None:
    loss = contrast({0: {0: -1.0, 1: 0.0}})
    assert loss is not None
    needed = calculate_needed(loss, 1, 10)
    assert (needed.prompts, needed.seeds, needed.steps) == (None, None, None)
    assert needed.least_gain == pytest.approx(0.5 * (12.7062 + 0.8416), rel=1e-4)
