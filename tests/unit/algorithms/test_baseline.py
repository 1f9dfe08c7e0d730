"""The running mean of past returns."""

from __future__ import annotations

import pytest
import torch

from rlhf_cli.algorithms.baseline import RunningMean


def test_before_anything_is_observed_it_is_zero() -> None:
    assert RunningMean() == RunningMean(count=0, mean=0.0)


def test_observations_count_alike_whatever_batch_they_came_in() -> None:
    found = RunningMean().observe(torch.tensor([1.0, 2.0, 3.0])).observe(torch.tensor([10.0]))
    assert found == RunningMean(4, 4.0)  # 16 / 4, not the mean of 2 and 10


def test_the_former_state_is_left_alone() -> None:
    before = RunningMean(2, 1.0)
    before.observe(torch.tensor([7.0]))
    assert before == RunningMean(2, 1.0)


def test_it_does_not_lose_small_values_to_float32() -> None:
    found = RunningMean()
    for _ in range(3):
        found = found.observe(torch.full((100,), 0.1))
    assert found.mean == pytest.approx(float(torch.tensor(0.1)), abs=1e-12)
