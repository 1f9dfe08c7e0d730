"""functional.intervals: against the tables of Student's t."""

from __future__ import annotations

import math
import random
from statistics import NormalDist, stdev

import pytest

from rlhf_cli.evaluation.intervals import (
    Estimate,
    estimate,
    share_of,
    standard_error,
    t_quantile,
    t_tail,
    wilson,
    with_error,
)


@pytest.mark.parametrize(
    ("probability", "degrees", "table"),
    [
        (0.975, 1, 12.706205),
        (0.975, 2, 4.302653),
        (0.975, 3, 3.182446),
        (0.975, 5, 2.570582),
        (0.975, 10, 2.228139),
        (0.975, 30, 2.042272),
        (0.975, 63, 1.998341),
        (0.975, 100, 1.983972),
        (0.975, 1000, 1.962339),
        (0.995, 1, 63.656741),
        (0.995, 2, 9.924843),
        (0.995, 4, 4.604095),
        (0.995, 63, 2.656145),
        (0.9995, 2, 31.599055),
        (0.9995, 100, 3.390491),
    ],
)
def test_quantiles_and_tails_are_those_of_the_tables(probability: float, degrees: int, table: float) -> None:
    assert t_quantile(probability, degrees) == pytest.approx(table, rel=2e-6)
    assert t_tail(-table, degrees) == pytest.approx(2 * (1 - probability), rel=2e-5)


@pytest.mark.parametrize("t", [0.1, 1.0, 1.5, 20.0, 1e9])
def test_tails_in_closed_form(t: float) -> None:
    # of 1 degree, which is Cauchy's, and of 2 and 4
    assert t_tail(t, 1) == pytest.approx(1 - 2 / math.pi * math.atan(t), rel=1e-6)
    assert t_tail(t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-6, abs=1e-15)
    sine = t / math.sqrt(4 + t * t)
    assert t_tail(t, 4) == pytest.approx(1 - sine * (3 - sine**2) / 2, rel=1e-6, abs=1e-15)


def test_a_tail_is_no_rest_of_one() -> None:
    # of 4 degrees with u = 4 / (4 + t^2): 3 u^2 / 8 + ..., which is 6 / t^4
    assert t_tail(1e4, 4) == pytest.approx(6e-16, rel=1e-6)


@pytest.mark.parametrize("degrees", [10_000, 3e5, 1e7])
@pytest.mark.parametrize("z", [0.5, 1.959964, 4.0])
def test_many_degrees_are_nearly_normal(degrees: float, z: float) -> None:
    # the first term of the Cornish-Fisher expansion: Abramowitz and Stegun 26.7.5
    t = z + (z**3 + z) / 4 / degrees
    assert t_tail(t, degrees) == pytest.approx(2 * NormalDist().cdf(-z), rel=1e-5)


@pytest.mark.parametrize("probability", [0.51, 0.6, 0.75, 0.9, 1 - 1e-8])
def test_quantiles_of_one_degree_in_closed_form(probability: float) -> None:
    assert t_quantile(probability, 1) == pytest.approx(math.tan(math.pi * (probability - 0.5)), rel=1e-7)


def test_degrees_between_two_whole_numbers_lie_between() -> None:
    assert t_quantile(0.975, 2) > t_quantile(0.975, 2.5) > t_quantile(0.975, 3)


@pytest.mark.parametrize(
    ("t", "tail"), [(0.0, 1.0), (math.nan, 1.0), (math.inf, 0.0), (1e200, 0.0), (2.2e-162, 1.0), (1e-200, 1.0)]
)
def test_tails_at_the_ends(t: float, tail: float) -> None:
    assert t_tail(t, 3) == t_tail(-t, 3) == tail


def test_mean_and_interval_by_hand() -> None:
    # 1, 2, 3, 4, 5, 6: mean 3.5, variance 17.5 / 5 = 3.5, standard error sqrt(3.5 / 6) = 0.763763, times t(5) = 2.5706
    found = estimate([1, 2, 3, 4, 5, 6])
    assert (found.mean, found.count) == (3.5, 6)
    assert found.half_width == pytest.approx(0.763763 * 2.5706, abs=1e-3)
    assert (found.low, found.high) == (3.5 - found.half_width, 3.5 + found.half_width)


def test_the_standard_error_divides_by_the_root_of_the_count() -> None:
    assert standard_error([1.0, 3.0]) == pytest.approx(1.0)  # deviation sqrt 2, over sqrt 2
    assert standard_error([1.0, 2.0, 4.0]) == pytest.approx(stdev([1.0, 2.0, 4.0]) / math.sqrt(3))


def test_a_single_value_says_nothing_about_its_error() -> None:
    found = estimate([2.5])
    assert (found.mean, found.half_width, found.count) == (2.5, math.inf, 1)
    assert standard_error([2.5]) == math.inf


def test_equal_values_have_no_error() -> None:
    assert estimate([0.3, 0.3, 0.3]).half_width == 0.0


def test_a_higher_level_gives_a_wider_interval() -> None:
    values = [1.0, 2.0, 4.0, 8.0]
    assert estimate(values, 0.5).half_width < estimate(values).half_width < estimate(values, 0.99).half_width


@pytest.mark.parametrize("count", [2, 3, 6, 20])
def test_the_interval_covers_the_truth_as_often_as_it_says(count: int) -> None:
    source, trials = random.Random(0), 4000
    found = (estimate([source.gauss(1.0, 2.0) for _ in range(count)]) for _ in range(trials))
    covered = sum(e.low <= 1.0 <= e.high for e in found) / trials
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / trials)  # four standard errors: 0.014


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_of_what_is_not_finite_there_is_no_error(odd: float) -> None:
    assert math.isnan(standard_error([1.0, odd, 2.0]))
    assert math.isnan(estimate([1.0, odd, 2.0]).half_width)


@pytest.mark.parametrize(
    ("mean", "count", "low", "high"), [(0.7, 10, 0.3968, 0.8922), (0.0, 10, 0.0, 0.2775), (1.0, 10, 0.7225, 1.0)]
)
def test_wilson_against_the_tables(mean: float, count: int, low: float, high: float) -> None:
    found = wilson(mean, count)
    assert (found.mean, found.count) == (mean, count)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_wilson_without_observations_knows_nothing() -> None:
    found = wilson(math.nan, 0)
    assert (math.isnan(found.mean), found.low, found.high, found.count) == (True, 0.0, 1.0, 0.0)


def test_wilson_never_leaves_0_and_1_by_rounding() -> None:
    for count in range(1, 100):
        assert wilson(0.0, count).low >= 0.0
        assert wilson(1.0, count).high <= 1.0


def test_a_mean_with_its_error_has_no_minus_before_zero() -> None:
    assert with_error(Estimate(-0.0004, 0.0126, 3), 3) == "0.000 ± 0.013"
    assert with_error(Estimate(0.25, 0.125, 3), 2, "+") == "+0.25 ± 0.12"


def test_a_share_of_clusters_counts_as_many_observations_as_have_its_error() -> None:
    # 0, 1/2, 1: mean 1/2, variance 1/4, squared error 1/12, so that n = (1/4) / (1/12) = 3; t(2) = 4.302653
    found = share_of(0.5, [0.0, 0.5, 1.0], 30)
    assert found.count == pytest.approx(3.0)
    assert found == wilson(0.5, found.count, t_quantile(0.975, 2))
    # z^2 = 18.5128: half-width z / (1 + z^2 / 3) sqrt(1 / 12 + z^2 / 36)
    assert (found.low, found.high) == (pytest.approx(0.5 - 0.463829, abs=1e-5), pytest.approx(0.963829, abs=1e-5))
    # 0.4, 0.5, 0.6 have the error of 75 observations, and there are 30
    assert share_of(0.5, [0.4, 0.5, 0.6], 30).count == 30
    # clusters that do not differ may not be independent inside
    assert share_of(1.0, [1.0, 1.0, 1.0], 30).count == share_of(0.5, [0.5, 0.5, 0.5], 30).count == 3


def test_an_interval_in_words() -> None:
    assert with_error(Estimate(-0.0001, 0.25, 4), 3, "+") == "+0.000 ± 0.250"
    assert with_error(wilson(0.5, 3, 4.302653), 3) == "0.500 [0.036, 0.964]"
