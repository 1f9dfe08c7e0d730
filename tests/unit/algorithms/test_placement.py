"""Where the KL may go, by enumeration: what is offered is what its page says, and what is refused is wrong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rlhf_cli.algorithms.placement import REFUSED
from rlhf_cli.algorithms.reinforce import Reinforce
from rlhf_cli.algorithms.rloo import Rloo
from tests.unit.algorithms.enumerated import (
    BETA,
    MASK,
    POLICY,
    REFERENCE,
    SCORES,
    expected_gradient,
    gradient_of,
    kl,
    logprobs,
    objective,
)

OFF = 0.24
"""The error of the gradient of k2 of each token, in lengths of the right one."""
PROBABILITIES = logprobs(POLICY).sum(1).exp()
K1 = logprobs(POLICY) - logprobs(REFERENCE)
RATIO = (-K1).exp()  # reference over policy, token by token


def expected(loss: Tensor) -> Tensor:
    """The expectation over the policy's own completions, held fixed, of a loss [7, 2] summed over tokens."""
    return (PROBABILITIES * (loss * MASK).sum(1)).sum()


def as_loss(estimator: str) -> Tensor:
    """The expected gradient of an estimator of the KL that is differentiated as a loss: [4, 3]."""

    def loss(table: Tensor) -> Tensor:
        log_ratio = logprobs(REFERENCE) - logprobs(table)
        return expected(
            {"k1": -log_ratio, "k2": log_ratio.square() / 2, "k3": log_ratio.exp() - 1 - log_ratio}[estimator]
        )

    return gradient_of(loss)


def in_reward(estimator: Tensor) -> Tensor:
    """The expected gradient of a cost for each token [7, 2] that the score function carries: [4, 3]."""
    whole = (estimator * MASK).sum(1)
    return gradient_of(lambda table: (PROBABILITIES * whole * logprobs(table).sum(1)).sum())


def state_detached() -> Tensor:
    """The gradient of each position's exact KL, at the states the policy visits, the visits held fixed."""
    policy, reference = torch.log_softmax(POLICY, -1), torch.log_softmax(REFERENCE, -1)
    visits = torch.cat([torch.ones(1, dtype=torch.float64), policy[0].exp()])
    visits[3] = 0.0  # token 2 ends the text

    def cost(table: Tensor) -> Tensor:
        now = torch.log_softmax(table, -1)
        return (visits * (now.exp() * (now - reference)).sum(-1)).sum()

    return gradient_of(cost)


def test_k1_in_the_reward_is_the_gradient_of_the_kl() -> None:
    assert_close(in_reward(K1), gradient_of(kl), rtol=0, atol=1e-9)


def test_k1_as_a_loss_has_no_gradient_at_all() -> None:
    assert_close(as_loss("k1"), torch.zeros(4, 3, dtype=torch.float64), rtol=0, atol=1e-9)
    assert float(gradient_of(kl).abs().max()) > 0.05


def test_k3_as_a_loss_is_the_kl_the_other_way_round_at_the_states_of_the_policy() -> None:
    policy, reference = torch.log_softmax(POLICY, -1), torch.log_softmax(REFERENCE, -1)
    visits = torch.cat([torch.ones(1, dtype=torch.float64), policy[0].exp()])
    visits[3] = 0.0

    def forward_kl(table: Tensor) -> Tensor:
        return (visits * (reference.exp() * (reference - torch.log_softmax(table, -1))).sum(-1)).sum()

    assert_close(as_loss("k3"), gradient_of(forward_kl), rtol=0, atol=1e-9)
    assert far(as_loss("k3"), gradient_of(kl))


def test_k3_in_the_reward_lacks_the_gradient_of_k3_itself() -> None:
    k3 = RATIO - 1 + K1
    # Its mean is the KL, but the estimator depends on the policy too, and that part of the product rule is not there.
    assert float(expected(k3)) == pytest.approx(float(kl(POLICY)), abs=1e-9)
    assert_close(in_reward(k3), gradient_of(kl) - as_loss("k3"), rtol=0, atol=1e-9)
    assert far(in_reward(k3), gradient_of(kl))


def test_k2_in_the_reward_is_not_the_kl() -> None:
    assert abs(float(expected(K1.square() / 2)) - float(kl(POLICY))) > 0.01
    assert far(in_reward(K1.square() / 2), gradient_of(kl))


def test_k2_as_a_loss_holds_the_states_fixed_and_that_is_not_all() -> None:
    assert_close(as_loss("k2"), state_detached(), rtol=0, atol=1e-9)
    assert far(as_loss("k2"), gradient_of(kl))


def test_k2_of_the_whole_completion_as_a_loss_is_the_kl() -> None:
    """By how much k2 of each token is off stands in docs/algorithms."""

    def loss(table: Tensor) -> Tensor:
        k1 = ((logprobs(table) - logprobs(REFERENCE)) * MASK).sum(1)
        return (PROBABILITIES * k1.square()).sum() / 2

    assert_close(gradient_of(loss), gradient_of(kl), rtol=0, atol=1e-9)
    assert float((as_loss("k2") - gradient_of(kl)).norm() / gradient_of(kl).norm()) == pytest.approx(OFF, abs=0.005)


@pytest.mark.parametrize("algorithm", [Reinforce(kind="reinforce", baseline="none"), Rloo(kind="rloo")])
def test_the_package_offers_exactly_that_as_loss_k2(algorithm: Reinforce | Rloo) -> None:
    rewards = gradient_of(lambda table: (logprobs(table).sum(1).exp() * SCORES).sum())
    found = expected_gradient(algorithm, 2, placement="loss_k2")
    assert_close(found, rewards - BETA * state_detached(), rtol=0, atol=1e-6)
    assert float((found - gradient_of(objective)).abs().max()) > 0.01


def test_at_one_token_k2_as_a_loss_is_exact() -> None:
    first, reference = POLICY[0], torch.log_softmax(REFERENCE[0], -1)

    def gradient(cost: str) -> Tensor:
        row = first.clone().requires_grad_()
        now = torch.log_softmax(row, -1)
        value = {
            "kl": (now.exp() * (now - reference)).sum(),
            "k2": (now.exp().detach() * (now - reference).square() / 2).sum(),
        }[cost]
        return torch.autograd.grad(value, row)[0]

    assert_close(gradient("k2"), gradient("kl"), rtol=0, atol=1e-9)


def test_every_refusal_says_why_and_cites_its_source() -> None:
    assert set(REFUSED) == {"loss_k1", "loss_k3", "reward_k2", "reward_k3"}
    for reason in REFUSED.values():
        assert "arXiv:" in reason or "joschu.net" in reason


def far(found: Tensor, true: Tensor) -> bool:
    """Whether a tenth of the true gradient or more is wrong."""
    return bool((found - true).norm() > 0.1 * true.norm())
