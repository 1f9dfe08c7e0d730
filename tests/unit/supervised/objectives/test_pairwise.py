"""Pairs: votes on both sides, ties, and the figures of preferences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rlhf_cli.supervised.objectives.dpo import Dpo
from rlhf_cli.supervised.objectives.pairwise import differences, pair_loss
from tests.unit.supervised.support import DPO

COLUMNS = {
    "chosen": [2.0, 0.0, 1.0, 3.0],
    "rejected": [1.0, 4.0, 1.0, 9.0],
    "share": [1.0, 0.2, 0.9, 0.5],
    "loss": [0.1, 0.2, 0.3, 0.4],
}


def plain(won: Tensor, lost: Tensor, shares: Tensor) -> Tensor:
    """Straight from the formula."""
    return -shares * torch.log(1 / (1 + torch.exp(-won))) - (1 - shares) * torch.log(1 / (1 + torch.exp(-lost)))


def test_the_loss_and_its_gradient_are_those_of_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    won, lost = torch.randn(2, 50, generator=generator, dtype=torch.float64) * 3
    shares = torch.rand(50, generator=generator, dtype=torch.float64)
    gradients = []
    for function in (pair_loss, plain):
        inputs = won.clone().requires_grad_(), lost.clone().requires_grad_()
        losses = function(*inputs, shares)
        losses.sum().backward()
        gradients.append((losses.detach(), *(one.grad for one in inputs)))
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9)


def test_large_differences_stay_finite() -> None:
    far = torch.tensor([500.0])
    assert pair_loss(far, -far, torch.ones(1)).item() == 0.0
    assert pair_loss(-far, far, torch.ones(1)).item() == 500.0


def test_a_tie_is_best_met_by_equal_sides() -> None:
    """log 2 at a difference of 0, with no pull in either direction; any other difference costs more."""
    difference = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    loss = pair_loss(difference, -difference, torch.full((1,), 0.5))
    loss.sum().backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert difference.grad is not None
    assert difference.grad.item() == 0.0


def test_votes_on_both_sides_are_best_met_by_their_log_odds() -> None:
    """With 3 of 4 votes the minimum is at sigmoid(d) = 3/4: d = log 3."""
    difference = torch.tensor([math.log(3)], dtype=torch.float64, requires_grad=True)
    pair_loss(difference, -difference, torch.tensor([0.75], dtype=torch.float64)).sum().backward()
    assert difference.grad is not None
    assert difference.grad.item() == pytest.approx(0, abs=1e-12)


def test_agreement_follows_most_votes_and_ties_of_people_do_not_count() -> None:
    assert differences(COLUMNS) == [1.0, -4.0, 0.0, -6.0]
    dpo = Dpo.model_validate(DPO)
    figures = dpo.held_out_figures(COLUMNS)
    assert figures.pop("accuracy_low") < 2.5 / 3 < figures.pop("accuracy_high")
    assert figures == dpo.figures(COLUMNS)
    assert figures == {
        "loss": 0.25,
        "accuracy": pytest.approx(2.5 / 3),
        "chosen": 1.5,
        "rejected": 3.75,
        "margin": -2.25,
    }
    assert dpo.held_out_figures({**COLUMNS, "share": [0.5] * 4}).keys() == {"loss", "chosen", "rejected", "margin"}
    assert dpo.values(COLUMNS) == {"loss": COLUMNS["loss"], "margin": [1.0, -4.0, 0.0, -6.0]}
    assert dpo.intervals(COLUMNS)["accuracy"].mean == pytest.approx(2.5 / 3)
    assert "accuracy" not in dpo.intervals({**COLUMNS, "share": [0.5] * 4})
