"""functional.returns, on numbers worked out by hand."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from rlhf_cli.functional.returns import leave_one_out, returns_to_go, token_rewards

MASK = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])


def test_every_token_pays_for_its_kl_and_the_last_one_earns_the_score() -> None:
    scores = torch.tensor([2.0, -1.0, 0.5])
    kl = torch.tensor([[0.2, 0.4, 0.0], [-0.2, 0.4, 0.6], [1.0, 0.0, 0.0]])
    by_hand = [
        [-0.1, -0.2 + 2.0, 0.0],
        [0.1, -0.2, -0.3 - 1.0],
        [-0.5 + 0.5, 0.0, 0.0],
    ]
    assert_close(token_rewards(scores, kl, 0.5, MASK), torch.tensor(by_hand))


def test_padding_pays_nothing_whatever_kl_stands_there() -> None:
    kl = torch.full((3, 3), torch.nan).masked_fill(MASK, 1.0)
    rewards = token_rewards(torch.zeros(3), kl, 1.0, MASK)
    assert rewards.tolist() == [[-1.0, -1.0, 0.0], [-1.0, -1.0, -1.0], [-1.0, 0.0, 0.0]]


def test_beta_zero_leaves_the_score_alone() -> None:
    rewards = token_rewards(torch.tensor([3.0, 4.0, 5.0]), torch.ones(3, 3), 0.0, MASK)
    assert rewards.tolist() == [[0.0, 3.0, 0.0], [0.0, 0.0, 4.0], [5.0, 0.0, 0.0]]


def test_the_kl_is_left_as_it_was() -> None:
    kl = torch.ones(3, 3)
    token_rewards(torch.ones(3), kl, 0.5, MASK)
    assert torch.equal(kl, torch.ones(3, 3))


def test_the_return_to_go_is_the_sum_from_the_token_on() -> None:
    rewards = torch.tensor([[1.0, 2.0, 4.0], [-1.0, 0.5, 0.0]])
    assert returns_to_go(rewards).tolist() == [[7.0, 6.0, 4.0], [-0.5, 0.5, 0.0]]


def test_leave_one_out_is_the_mean_of_the_others_of_the_group() -> None:
    values = torch.tensor([1.0, 2.0, 6.0, 10.0, 20.0, 60.0])
    # (2 + 6) / 2, (1 + 6) / 2, (1 + 2) / 2; (20 + 60) / 2, (10 + 60) / 2, (10 + 20) / 2
    assert leave_one_out(values, 3).tolist() == [4.0, 3.5, 1.5, 40.0, 35.0, 15.0]


def test_in_a_group_of_two_the_other_is_the_baseline() -> None:
    assert leave_one_out(torch.tensor([1.0, 5.0, -3.0, 0.0]), 2).tolist() == [5.0, 1.0, 0.0, -3.0]
