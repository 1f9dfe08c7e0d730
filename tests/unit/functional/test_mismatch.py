"""Sampler against trainer, on numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from rlhf_cli.functional.mismatch import (
    LARGEST_WEIGHT,
    STOP_BELOW,
    TOLERANCE,
    WARN_BELOW,
    measure_cut,
    measure_mismatch,
    sequence_weights,
)


def test_by_hand() -> None:
    # weights 1, 2 and 4: (1 + 2 + 4)^2 / (3 (1 + 4 + 16)) = 49 / 63
    found = measure_mismatch(torch.tensor([0.0, math.log(2), math.log(4)]))
    assert found.gap == pytest.approx(math.log(4))
    assert found.mean == pytest.approx(math.log(2))
    assert found.deviation == pytest.approx(math.log(2) * math.sqrt(2 / 3))
    assert found.effective_share == pytest.approx(49 / 63)


def test_the_mass_that_truncated_weights_lose() -> None:
    # of 1 + 2 + 4 the weight 4 loses 2; weights up to 2 lose nothing
    assert measure_cut(torch.tensor([0.0, math.log(2), math.log(4)])) == pytest.approx(2 / 7)
    assert measure_cut(torch.tensor([0.0, math.log(1.9)])) == 0.0


def test_the_gap_is_the_largest_absolute_difference() -> None:
    assert measure_mismatch(torch.tensor([0.1, -0.4])).gap == pytest.approx(0.4)


def test_equal_log_probabilities_keep_all_samples() -> None:
    found = measure_mismatch(torch.zeros(5))
    assert (found.gap, found.mean, found.deviation, found.effective_share) == (0.0, 0.0, 0.0, 1.0)


def test_a_common_factor_costs_nothing_and_does_not_overflow() -> None:
    assert measure_mismatch(torch.full((4,), 2000.0)).effective_share == pytest.approx(1.0)


def test_weights_are_ratios_up_to_two() -> None:
    found = sequence_weights(torch.tensor([-0.5, 0.0, 0.005, math.log(1.5), 3.0]))
    assert_close(found, torch.tensor([math.exp(-0.5), 1.0, math.exp(0.005), 1.5, 2.0]))


def test_a_weight_that_would_overflow_leaves_one_sample_of_two() -> None:
    assert measure_mismatch(torch.tensor([0.0, 2000.0])).effective_share == pytest.approx(0.5)


def test_the_limits_are_those_of_the_documents() -> None:
    assert (TOLERANCE, LARGEST_WEIGHT, WARN_BELOW, STOP_BELOW) == (0.01, 2.0, 0.8, 0.5)
