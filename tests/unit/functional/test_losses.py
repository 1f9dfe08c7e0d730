"""Token weights and losses on numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from rlhf_cli.functional.losses import (
    Aggregation,
    clipped_surrogate,
    clipped_value_loss,
    k2_loss,
    policy_gradient,
    sequence_k2_loss,
    token_weights,
)

MASK = torch.tensor([[True, True, True], [True, False, False]])


@pytest.mark.parametrize(
    ("aggregation", "by_hand"),
    [
        ("sum", [[1 / 2] * 3, [1 / 2, 0, 0]]),
        ("constant", [[1 / 20] * 3, [1 / 20, 0, 0]]),
        ("token_mean", [[1 / 4] * 3, [1 / 4, 0, 0]]),
        ("sequence_mean", [[1 / 6] * 3, [1 / 2, 0, 0]]),
    ],
)
def test_token_weights(aggregation: Aggregation, by_hand: list[list[float]]) -> None:
    found = token_weights(MASK, aggregation, 10)
    assert_close(found, torch.tensor(by_hand, dtype=torch.float64))


def test_padding_does_not_change_a_loss() -> None:
    weights = token_weights(MASK, "sum", 10)
    nan = torch.full((2, 3), math.nan, dtype=torch.float64)
    logprobs, advantages = (torch.where(MASK, value, nan) for value in (-1.0, 2.0))
    assert float(policy_gradient(logprobs, advantages, weights)) == pytest.approx(4.0)  # 4 tokens, 2 each, over 2
    loss, clipped = clipped_surrogate(logprobs, logprobs, advantages, weights, 0.2, 0.2)
    assert float(loss) == pytest.approx(-4.0)
    assert not clipped.any()
    assert float(k2_loss(logprobs, logprobs - 1, weights)) == pytest.approx(1.0)  # 4 tokens, 1/2 each, over 2


def test_the_gradient_raises_tokens_with_a_positive_advantage() -> None:
    logprobs = torch.zeros(2, 3, requires_grad=True)
    advantages = torch.tensor([[2.0, -1.0, 0.0], [4.0, 9.0, 9.0]])
    policy_gradient(logprobs, advantages, token_weights(MASK, "sum", 10).float()).backward()
    assert_close(logprobs.grad, torch.tensor([[-1.0, 0.5, 0.0], [-2.0, 0.0, 0.0]]))


def test_k2_by_hand() -> None:
    logprobs = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    loss = k2_loss(logprobs, torch.tensor([[-1.5, -1.0]]), torch.tensor([[1.0, 0.5]]))
    assert float(loss.detach()) == pytest.approx(0.5**2 / 2 + 0.5 * 1.0**2 / 2)
    loss.backward()
    assert_close(logprobs.grad, torch.tensor([[0.5, -0.5]]))  # weight times k1


def test_k2_of_whole_completions_by_hand() -> None:
    # k1 is 0.5 - 1 = -0.5 and 0.25, the weights 1/2 and 1; what stands in the padding is not seen
    logprobs = torch.tensor([[-1.0, -2.0], [-1.0, math.nan]], requires_grad=True)
    ref_logprobs = torch.tensor([[-1.5, -1.0], [-1.25, 7.0]])
    loss = sequence_k2_loss(logprobs, ref_logprobs, torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    assert float(loss.detach()) == pytest.approx((0.5 * 0.25 + 0.0625) / 2)
    loss.backward()
    assert_close(logprobs.grad, torch.tensor([[-0.25, -0.25], [0.25, 0.0]]))  # weight times k1, at every token


def test_the_two_clip_ranges() -> None:
    ratios = torch.tensor([[1.25, 1.35, 0.85, 0.75]])
    weights = torch.ones(1, 4)
    up, clipped = clipped_surrogate(ratios.log(), torch.zeros(1, 4), torch.ones(1, 4), weights, 0.2, 0.3)
    assert float(up) == pytest.approx(-(1.25 + 1.3 + 0.85 + 0.75))
    assert clipped.tolist() == [[False, True, False, False]]
    down, clipped = clipped_surrogate(ratios.log(), torch.zeros(1, 4), -torch.ones(1, 4), weights, 0.2, 0.3)
    assert float(down) == pytest.approx(1.25 + 1.35 + 0.85 + 0.8)
    assert clipped.tolist() == [[False, False, False, True]]


def test_values_beyond_the_clip_range_are_clipped() -> None:
    # old values 0, returns 1, range .2: .5 is held to .2; 3 is not, its own error is the larger; .1 is within the range
    values, returns = torch.tensor([[0.5, 3.0, 0.1, 0.5]]), torch.ones(1, 4)
    weights = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    loss, clipped = clipped_value_loss(values, torch.zeros(1, 4), returns, weights, 0.2)
    assert clipped.tolist() == [[True, False, False, False]]
    assert float(loss) == pytest.approx((0.64 + 4.0 + 0.81) / 2)


def test_the_clip_range_lies_around_the_old_value() -> None:
    # from 2 no further than to 1.8, which is 0.8 off, though 1 would be right
    one = torch.ones(1, 1)
    loss, clipped = clipped_value_loss(one, 2 * one, one, one, 0.2)
    assert float(loss) == pytest.approx(0.64 / 2)
    assert clipped.tolist() == [[True]]


def test_a_value_within_the_range_is_not_clipped_by_rounding() -> None:
    # in float32 .6 + (.1 - .6) is 2e-8 above .1, so that the clipped branch is the larger for a return of 0
    old, values, weights = torch.tensor([[0.6]]), torch.tensor([[0.1]]), torch.ones(1, 1)
    assert (old + (values - old)).square() > values.square()
    loss, clipped = clipped_value_loss(values, old, torch.zeros(1, 1), weights, 0.7)
    assert float(loss) == pytest.approx(0.01 / 2)
    assert clipped.tolist() == [[False]]


def test_the_value_loss_is_the_weighted_sum_over_all_completions() -> None:
    # 0.64 as above, and 2^2 of a value that did not move: 0.64 / 2 + 4 / 4, halved
    values, old, weights = (torch.tensor(rows) for rows in ([[1.0], [3.0]], [[2.0], [3.0]], [[0.5], [0.25]]))
    loss, clipped = clipped_value_loss(values, old, torch.ones(2, 1), weights, 0.2)
    assert float(loss) == pytest.approx(0.66)
    assert clipped.tolist() == [[True], [False]]
