"""evaluation.pairs: worked by hand."""

from __future__ import annotations

import math

import pytest

from rlhf_cli.evaluation.intervals import Interval, wilson
from rlhf_cli.evaluation.pairs import calibration_error, pair_accuracy, reliability


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_accuracy_counts_equal_scores_half_and_ties_of_the_votes_not_at_all() -> None:
    differences = [2.0, 1.0, -1.0, 0.0, -0.5, 3.0]
    shares = [1.0, 1.0, 1.0, 0.75, 0.25, 0.5]  # right, right, wrong, half, right, a tie
    assert pair_accuracy(differences, shares) == wilson(3.5 / 5, 5)
    nothing = pair_accuracy([1.0], [0.5])
    assert math.isnan(nothing.mean)
    assert (nothing.low, nothing.high, nothing.count) == (0.0, 1.0, 0.0)


def test_a_bin_has_the_mean_confidence_and_how_often_it_was_right() -> None:
    # 0.6 right, 0.7 wrong, 0.9 right with three of four votes, whichever completion is favoured
    differences = [logit(0.6), -logit(0.7), -logit(0.9)]
    first, second = reliability(differences, [1.0, 1.0, 0.25], bins=2)
    assert (first.count, second.count) == (2, 1)
    assert first.confidence == pytest.approx(0.65)
    assert first.right == Interval.of(wilson(0.5, 2))
    assert second.confidence == pytest.approx(0.9)
    assert second.right == Interval.of(wilson(0.75, 1))
    assert calibration_error([first, second]) == pytest.approx((2 * 0.15 + 0.15) / 3)


def test_the_ends_of_the_bins() -> None:
    bins = reliability([0.0, 1000.0, -1000.0], [1.0, 1.0, 1.0])
    assert [one.count for one in bins] == [1, 2]  # eight bins between them have none
    assert bins[0].confidence == bins[0].right.mean == 0.5  # equal scores favour none: right by half
    assert bins[-1].right.mean == 0.5


def test_predictions_as_sure_as_they_are_right_have_no_error() -> None:
    difference = logit(0.8)
    bins = reliability([difference] * 5, [1.0, 1.0, 1.0, 1.0, 0.0])
    assert calibration_error(bins) == pytest.approx(0.0, abs=1e-12)
    assert calibration_error(reliability([5 * difference] * 5, [1.0] * 4 + [0.0])) == pytest.approx(0.2, abs=2e-3)
    assert math.isnan(calibration_error(reliability([], [])))
