"""functional.masked"""

from __future__ import annotations

import math

import torch

from rlhf_cli.functional.masked import masked_mean, masked_sum

VALUES = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
MASK = torch.tensor([[True, False, True], [False, True, False]])


def test_the_sum_counts_masked_positions_row_by_row() -> None:
    assert masked_sum(VALUES, MASK).tolist() == [5.0, 16.0]  # 1 + 4; 16


def test_the_mean_divides_by_the_number_of_positions_not_of_rows() -> None:
    assert float(masked_mean(VALUES, MASK)) == 7.0  # (1 + 4 + 16) / 3
    assert float(masked_mean(VALUES, VALUES == 16.0)) == 16.0  # of one position


def test_numbers_outside_the_mask_that_are_not_finite_are_ignored() -> None:
    values = VALUES.masked_fill(~MASK, math.nan)
    values[0, 1] = -math.inf
    assert masked_sum(values, MASK).tolist() == [5.0, 16.0]
    assert float(masked_mean(values, MASK)) == 7.0


def test_a_nan_inside_the_mask_is_not_hidden() -> None:
    assert math.isnan(float(masked_mean(torch.tensor([[math.nan]]), torch.tensor([[True]]))))


def test_an_empty_mask_gives_zero() -> None:
    nothing = torch.zeros_like(MASK)
    assert masked_sum(VALUES, nothing).tolist() == [0.0, 0.0]
    assert float(masked_mean(VALUES, nothing)) == 0.0


def test_no_gradient_flows_through_masked_out_positions() -> None:
    values = VALUES.clone().requires_grad_()
    masked_sum(values, MASK).sum().backward()
    assert torch.equal(values.grad, MASK.float())
