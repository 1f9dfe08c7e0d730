"""functional.intervals: against the tables of Student's t."""

from __future__ import annotations

import math
import random
from statistics import NormalDist, stdev

import pytest

from rlhf_cli.evaluation.intervals import estimate, standard_error, t_quantile, wilson

# Two-sided 95 % and 99 %, from any statistics table.
AT_975 = {1: 12.7062, 2: 4.30265, 5: 2.57058, 10: 2.22814, 30: 2.04227, 63: 1.99834}
AT_995 = {1: 63.6567, 2: 9.92484, 30: 2.74999, 63: 2.65615}


@pytest.mark.parametrize(("degrees", "table"), AT_975.items())
def test_t_quantiles_of_95_percent_intervals_are_those_of_the_tables(degrees: int, table: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(table, abs=1e-3)


@pytest.mark.parametrize(("degrees", "table"), AT_995.items())
def test_t_quantiles_of_99_percent_intervals_are_those_of_the_tables(degrees: int, table: float) -> None:
    assert t_quantile(0.995, degrees) == pytest.approx(table, abs=1e-3)


def test_every_term_of_the_expansion_is_there() -> None:
    # z = 2.575829: terms 2.575829, 4.916548, 8.834762, 12.144296, 12.054824 over 1, 5, 25, 125, 625; table 4.0321
    assert t_quantile(0.995, 5) == pytest.approx(4.028971, abs=1e-5)


def test_the_terms_of_the_expansion_at_one_by_hand() -> None:
    # z = 1: sums of the coefficients (1 + 1) / 4, (5 + 16 + 3) / 96 = 1 / 4, (3 + 19 + 17 - 15) / 384 = 1 / 16 and
    # (79 + 776 + 1482 - 1920 - 945) / 92160 = -528 / 92160, over 4, 16, 64, 256
    by_hand = 1 + 1 / 8 + 1 / 64 + 1 / 1024 - 528 / 92160 / 256
    assert t_quantile(NormalDist().cdf(1.0), 4) == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("degrees", [1, 2, 5, 30])
def test_the_quantile_is_odd_around_one_half(degrees: int) -> None:
    assert t_quantile(0.5, degrees) == pytest.approx(0.0, abs=1e-12)
    assert t_quantile(0.1, degrees) == pytest.approx(-t_quantile(0.9, degrees))


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
    assert (math.isnan(found.mean), found.low, found.high) == (True, 0.0, 1.0)
