"""functional.returns, on numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from rlhf_cli.functional.returns import (
    centre_by_group,
    equalise,
    generalised_advantages,
    leave_one_out,
    returns_to_go,
    token_rewards,
    whiten,
)

MASK = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])

ALL = torch.ones(8, dtype=torch.bool)


def test_every_token_pays_its_kl_and_the_last_one_gets_the_score() -> None:
    scores = torch.tensor([2.0, -1.0, 0.5])
    kl = torch.tensor([[0.2, 0.4, 0.0], [-0.2, 0.4, 0.6], [1.0, 0.0, 0.0]])
    by_hand = [
        [-0.1, -0.2 + 2.0, 0.0],
        [0.1, -0.2, -0.3 - 1.0],
        [-0.5 + 0.5, 0.0, 0.0],
    ]
    assert_close(token_rewards(scores, kl, 0.5, MASK), torch.tensor(by_hand))


def test_padding_gets_no_reward_whatever_its_kl() -> None:
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
    assert leave_one_out(values, 3, ALL[:6]).tolist() == [4.0, 3.5, 1.5, 40.0, 35.0, 15.0]


def test_completions_that_do_not_count_enter_no_baseline() -> None:
    values = torch.tensor([1.0, 2.0, 6.0, 10.0, 20.0, 60.0])
    counts = torch.tensor([True, False, True, True, False, False])
    # of the first group 1 and 6 count: the others of each are 6, (1 + 6) / 2, 1; of the second 10 alone: none, 10, 10
    assert leave_one_out(values, 3, counts).tolist() == [6.0, 3.5, 1.0, 0.0, 10.0, 10.0]


def test_centre_by_group_by_hand() -> None:
    values = torch.tensor([1.0, 2.0, 6.0, 4.0, 9.0, 4.0])
    # the mean 3 and (4 + 1 + 9) / 2 = 7; in the second group, without the 9: 4 and 0
    counts = torch.tensor([True, True, True, True, False, True])
    centred, deviation = centre_by_group(values, 3, counts)
    assert centred.tolist() == [-2.0, -1.0, 3.0, 0.0, 0.0, 0.0]
    assert_close(deviation, torch.tensor([7.0, 7.0, 7.0, 0.0, 0.0, 0.0]).sqrt())


def test_a_value_that_does_not_count_moves_no_mean_and_no_deviation() -> None:
    values, counts = torch.tensor([1.0, 90.0, 5.0, 2.0, 3.0, 4.0]), torch.tensor([True, False, True] + [False] * 3)
    # the mean of 1 and 5 is 3, their deviation sqrt(4 + 4) over 1; of the second group none counts
    centred, deviation = centre_by_group(values, 3, counts)
    assert centred.tolist() == [-2.0, 0.0, 2.0, 0.0, 0.0, 0.0]
    assert_close(deviation, torch.tensor([8.0, 8.0, 8.0, 0.0, 0.0, 0.0]).sqrt())


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7, 1 / 3, 5.55, -12.7])
@pytest.mark.parametrize("size", [2, 3, 6, 7, 8, 16])
def test_equal_values_are_their_own_mean_to_the_bit(value: float, size: int) -> None:
    """Adam takes a full step for any gradient: it would learn rounding errors. The last two values do not count."""
    values = torch.tensor([*[value] * size, 99.0, -99.0]).repeat(2)
    counts = values.abs() < 99.0
    assert torch.equal(leave_one_out(values, size + 2, counts)[:size], values[:size])
    centred, deviation = centre_by_group(values, size + 2, counts)
    assert not centred.any()
    assert not deviation.any()
    assert not whiten(values.view(2, -1), counts.view(2, -1)).any()


@pytest.mark.parametrize("value", [0.1, 0.7, -12.7, 3e-9, 4e9])
@pytest.mark.parametrize("up", [True, False])
def test_values_that_differ_by_rounding_are_equal(value: float, up: bool) -> None:
    """Two steps of float32: with the standard deviation, Adam took a step of full size for a spread of 1e-8."""
    least = torch.tensor(value)
    for _ in range(2):
        least = least.nextafter(torch.tensor(torch.inf if up else -torch.inf))
    values = torch.stack([torch.tensor(value), least, torch.tensor(value)])
    assert len(set(values.tolist())) == 2
    assert torch.equal(leave_one_out(values, 3, ALL[:3]), values)
    centred, deviation = centre_by_group(values, 3, ALL[:3])
    assert not centred.any()
    assert not deviation.any()
    assert not whiten(values.view(1, -1), ALL[:3].view(1, -1)).any()


def test_values_that_differ_by_rounding_are_made_equal_before_a_mean_is_subtracted() -> None:
    """Of -8 less a mean of -8, that is 0 and 4.8e-7: leave-one-out saw two scores, and a spread of full size."""
    least = float(torch.tensor(-8.0).nextafter(torch.tensor(0.0)))
    values = torch.tensor([-8.0, least, least, -8.0, 1.0, 2.0, 3.0, 4.0])
    counts = torch.tensor([True, True, True, False, True, False, False, False])
    assert equalise(values, 4, counts).tolist() == [-8.0, -8.0, -8.0, -8.0, 1.0, 2.0, 3.0, 4.0]
    assert equalise(values, 4, ~counts).tolist() == values.tolist()
    assert equalise(values, 8, ALL[:8]).tolist() == values.tolist()
    assert equalise(values, 1, counts).tolist() == values.tolist()


@pytest.mark.parametrize(("low", "high"), [(0.0, 1e-30), (1.0, 1.000001), (4e6, 4e6 + 1), (-1e-9, 1e-9)])
def test_values_that_differ_by_more_than_rounding_do_not(low: float, high: float) -> None:
    values = torch.tensor([low, high])
    assert leave_one_out(values, 2, ALL[:2]).tolist() == values.flip(0).tolist()
    assert centre_by_group(values, 2, ALL[:2])[0].all()
    assert whiten(values.view(1, -1), ALL[:2].view(1, -1)).any()


def test_one_value_that_differs_is_enough() -> None:
    values = torch.tensor([0.7, 0.7, 0.8])
    assert_close(leave_one_out(values, 3, ALL[:3]), torch.tensor([0.75, 0.75, 0.7]))
    assert_close(centre_by_group(values, 3, ALL[:3])[0], torch.tensor([-0.1, -0.1, 0.2]) / 3)
    assert whiten(values.view(1, -1), ALL[:3].view(1, -1)).all()


def test_in_a_group_of_two_the_other_is_the_baseline() -> None:
    assert leave_one_out(torch.tensor([1.0, 5.0, -3.0, 0.0]), 2, ALL[:4]).tolist() == [5.0, 1.0, 0.0, -3.0]


def test_generalised_advantages_by_hand() -> None:
    rewards = torch.tensor([[0.5, -1.0, 2.0], [1.0, 9.0, 9.0]])
    values = torch.tensor([[1.0, 0.0, -1.0], [0.5, 7.0, 7.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    # row 1, backwards: 2 + 1 = 3; -1 + .5 * -1 - 0 = -1.5, plus .5 * .8 * 3 = -.3; .5 + 0 - 1 = -.5, plus .4 * -.3
    # row 2: 1 - .5, and what stands in the padding is not seen
    by_hand = torch.tensor([[-0.62, -0.3, 3.0], [0.5, 0.0, 0.0]])
    assert_close(generalised_advantages(rewards, values, mask, gamma=0.5, gae_lambda=0.8), by_hand)


def test_with_lambda_and_gamma_one_advantages_are_returns_to_go_minus_values() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(5) < torch.tensor([5, 1, 3])[:, None]
    rewards, values = (torch.randn(3, 5, generator=generator) * mask for _ in range(2))
    found = generalised_advantages(rewards, values, mask, gamma=1.0, gae_lambda=1.0)
    assert_close(found, (returns_to_go(rewards) - values) * mask)


def test_whiten_by_hand() -> None:
    values = torch.tensor([[1.0, 3.0, 99.0], [5.0, 99.0, 99.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    # mean 3, deviations -2, 0, 2, variance 8 / 3
    by_hand = torch.tensor([[-2.0, 0.0, 0.0], [2.0, 0.0, 0.0]]) / ((8 / 3) ** 0.5 + 1e-4)
    assert_close(whiten(values, mask), by_hand)


def test_equal_values_are_whitened_to_zero() -> None:
    assert torch.equal(whiten(torch.full((1, 3), 0.7), torch.ones(1, 3, dtype=torch.bool)), torch.zeros(1, 3))
