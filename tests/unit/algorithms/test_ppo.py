"""PPO on numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.ppo import Ppo
from rlhf_cli.types import Forward, Scored
from tests.unit.support import minibatch_of, rollout_of, scored_of

MASK = [[1, 1], [1, 0]]


def ppo(**changes: Any) -> Ppo:
    fields = {"clip_range": 0.2, "vf_coef": 0.5, "value_clip_range": 0.2, "gamma": 1.0, "gae_lambda": 0.5}
    fields |= {"whiten": False, "aggregation": "sum", "epochs": 1, "minibatch_size": None}
    return Ppo.model_validate({"kind": "ppo"} | fields | changes)


def scored() -> Scored:
    """Rewards [-.1, 1.8] and [-.5, -]; values [1, 2] and [-1, -]."""
    rollout = rollout_of(MASK, logprobs=torch.tensor([[-1.0, -1.0], [-1.0, 0.0]]))
    reference = torch.tensor([[-1.2, -1.4], [-2.0, 0.0]])
    values = torch.tensor([[1.0, 2.0], [-1.0, 0.0]])
    return scored_of(rollout, [2.0, 0.0], ref_logprobs=reference, values=values, beta=0.5)


def test_advantages_and_returns() -> None:
    found = ppo().advantages(scored(), RunningMean())
    # row 1: delta = 1.8 - 2 = -.2 at the last; before it -.1 + 2 - 1 = .9, plus .5 * -.2 = .8. row 2: -.5 + 1 = .5
    assert_close(found.advantages, torch.tensor([[0.8, -0.2], [0.5, 0.0]]))
    assert_close(found.returns, torch.tensor([[1.8, 1.8], [-0.5, 0.0]]))


def test_with_lambda_one_the_returns_are_those_to_go() -> None:
    found = ppo(gae_lambda=1.0).advantages(scored(), RunningMean())
    assert_close(found.returns, torch.tensor([[1.7, 1.8], [-0.5, 0.0]]))


def test_with_lambda_zero_only_the_next_value_counts() -> None:
    assert_close(ppo(gae_lambda=0.0).advantages(scored(), RunningMean()).advantages[0], torch.tensor([0.9, -0.2]))


def test_a_discount() -> None:
    # .5 * 2 - 1 - .1 = -.1, plus .5 * .5 * -.2
    assert_close(ppo(gamma=0.5).advantages(scored(), RunningMean()).advantages[0], torch.tensor([-0.15, -0.2]))


def test_whitening_comes_after_the_returns_and_leaves_the_padding_alone() -> None:
    found = ppo(whiten=True).advantages(scored(), RunningMean())
    assert_close(found.returns, torch.tensor([[1.8, 1.8], [-0.5, 0.0]]))
    # .8, -.2, .5: mean 11/30, deviations 13/30, -17/30, 4/30, variance (169 + 289 + 16) / 900 / 3
    spread = (474 / 2700) ** 0.5 + 1e-4
    by_hand = torch.tensor([[13 / 30 / spread, -17 / 30 / spread], [4 / 30 / spread, 0.0]])
    assert_close(found.advantages, by_hand)


def test_the_clipped_value_loss() -> None:
    # old values 0, returns 1: a value of .5 is held to .2, whose error .8 is the larger: (.8)^2
    # the second value, 3, is held to .2 as well, but its own error, 2, is the larger: 2^2
    blank = torch.zeros(1, 2)
    minibatch = minibatch_of(blank, [[1, 1]], values=blank, returns=torch.ones(1, 2))
    values = torch.tensor([[0.5, 3.0]], requires_grad=True)
    found = ppo().loss(minibatch, Forward(blank, values))
    assert float(found.loss.detach()) == pytest.approx(0.5 * (0.64 + 4.0) / 2)
    assert found.metrics == {
        "policy/clip_fraction": 0.0,
        "value/clip_fraction": 1.0,
        "value/error": pytest.approx(0.25 + 4.0),
    }
    found.loss.backward()
    assert_close(values.grad, torch.tensor([[0.0, 0.5 * 2.0]]))  # vf_coef (V - R); none where it is held back


def test_without_value_clipping() -> None:
    blank = torch.zeros(1, 2)
    minibatch = minibatch_of(blank, [[1, 1]], values=blank, returns=torch.ones(1, 2))
    found = ppo(value_clip_range=None).loss(minibatch, Forward(blank, torch.tensor([[0.5, 3.0]])))
    assert float(found.loss) == pytest.approx(0.5 * (0.25 + 4.0) / 2)


def test_the_policy_loss_is_clipped_on_both_sides_alike() -> None:
    advantages = torch.tensor([[1.0, -1.0]])
    minibatch = minibatch_of(advantages, [[1, 1]], values=torch.zeros(1, 2), returns=torch.zeros(1, 2))
    found = ppo().loss(minibatch, Forward(torch.tensor([[1.5, 0.5]]).log(), torch.zeros(1, 2)))
    assert float(found.loss) == pytest.approx(-(1.2 - 0.8))
    assert found.metrics["policy/clip_fraction"] == 2.0


def test_without_a_value_head_it_refuses() -> None:
    with pytest.raises(ValueError, match="needs the values of a value head"):
        ppo().advantages(replace(scored(), values=None), RunningMean())
    with pytest.raises(ValueError, match="needs the values of a value head"):
        ppo().loss(minibatch_of(torch.zeros(1, 2), [[1, 1]]), Forward(torch.zeros(1, 2), None))


@pytest.mark.parametrize(
    ("changes", "kl", "refused"),
    [
        ({"whiten": True, "epochs": 4, "minibatch_size": 2}, "reward", False),
        ({"whiten": True, "epochs": 4, "minibatch_size": 2}, "loss_k2", False),
        ({}, "exact", False),
        ({"whiten": True}, "exact", True),
        ({"gamma": 0.9}, "exact", True),
        ({"epochs": 2}, "exact", True),
        ({"minibatch_size": 2}, "exact", True),
        ({"gae_lambda": 0.9}, "exact", True),
        ({"shared_trunk": True}, "exact", True),
        ({}, "loss_k2_sequence", False),
        ({"whiten": True}, "loss_k2_sequence", True),
        ({"epochs": 2}, "loss_k2_sequence", True),
        ({"shared_trunk": True, "vf_coef": 0.0}, "exact", False),
    ],
)
def test_what_it_refuses(changes: dict[str, Any], kl: Any, refused: bool) -> None:
    one = ppo(**({"gae_lambda": 1.0, "shared_trunk": False} | changes))
    assert (one.why_unsound(kl) is not None) == refused
