"""The expected gradient of the loss over every possible batch is the gradient of J = E[r] - beta KL, term by term."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.reinforce import Reinforce
from rlhf_cli.algorithms.rloo import Rloo
from tests.unit.algorithms.enumerated import (
    COMPLETIONS,
    expected_loss_gradient,
    logprobs,
    objective_gradient,
    parameters,
)

NOTHING = RunningMean()


def test_the_completions_are_all_there_are() -> None:
    assert float(logprobs(*parameters()).detach().sum(1).exp().sum()) == pytest.approx(1.0, abs=1e-12)
    assert len(set(COMPLETIONS)) == 7


def test_the_gradient_is_not_small_so_that_agreement_means_something() -> None:
    assert float(objective_gradient().abs().max()) > 0.05


@pytest.mark.parametrize(
    ("algorithm", "completions", "past"),
    [
        (Reinforce(kind="reinforce", baseline="none"), 1, NOTHING),
        (Reinforce(kind="reinforce", baseline="none"), 2, NOTHING),
        (Reinforce(kind="reinforce", baseline="running"), 2, RunningMean(10, 0.7)),
        (Rloo(kind="rloo"), 2, NOTHING),
        (Rloo(kind="rloo"), 3, NOTHING),
    ],
    ids=["none, B=1", "none, B=2", "running, B=2", "rloo, groups of 2", "rloo, groups of 3"],
)
def test_unbiased(algorithm: Reinforce | Rloo, completions: int, past: RunningMean) -> None:
    found = -expected_loss_gradient(algorithm, completions, past)
    assert_close(found, objective_gradient(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("completions", [2, 3])
def test_the_batch_mean_shrinks_the_gradient_by_one_completion(completions: int) -> None:
    found = -expected_loss_gradient(Reinforce(kind="reinforce", baseline="mean"), completions, NOTHING)
    assert_close(found, objective_gradient() * (completions - 1) / completions, rtol=0, atol=1e-6)


def test_without_a_baseline_a_past_mean_is_ignored() -> None:
    algorithm = Reinforce(kind="reinforce", baseline="none")
    assert torch.equal(
        expected_loss_gradient(algorithm, 1, RunningMean(10, 5.0)), expected_loss_gradient(algorithm, 1, NOTHING)
    )
