"""RLOO on numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.types import Forward
from tests.unit.support import minibatch_of, rollout_of, scored_of

RLOO = Rloo(kind="rloo")


def test_advantages_of_two_groups() -> None:
    rollout = rollout_of([[1, 1], [1, 0], [1, 1], [1, 0]], samples=2)
    scored = scored_of(rollout, [1.0, 4.0, -2.0, 0.5])
    # each minus the other: -3, 3; -2.5, 2.5, at every token that counts
    by_hand = [[-3.0, -3.0], [3.0, 0.0], [-2.5, -2.5], [2.5, 0.0]]
    assert_close(RLOO.advantages(scored, RunningMean()).advantages, torch.tensor(by_hand))


def test_a_group_of_three() -> None:
    scored = scored_of(rollout_of([[1], [1], [1]], samples=3), [1.0, 2.0, 6.0])
    # 1 - 4, 2 - 3.5, 6 - 1.5
    assert RLOO.advantages(scored, RunningMean()).advantages.flatten().tolist() == [-3.0, -1.5, 4.5]


def test_the_penalised_return_goes_through_the_baseline_not_the_raw_score() -> None:
    logprobs = torch.tensor([[-1.0, -1.0], [-1.0, 0.0]])
    rollout = rollout_of([[1, 1], [1, 0]], samples=2, logprobs=logprobs)
    ref_logprobs = torch.tensor([[-2.0, -3.0], [-1.5, 0.0]])
    scored = scored_of(rollout, [1.0, 1.0], ref_logprobs=ref_logprobs, beta=0.1)
    # R = 1 - .1 (1 + 2) = .7 and 1 - .1 * .5 = .95; the scores alone would give zero
    by_hand = [[-0.25, -0.25], [0.25, 0.0]]
    assert_close(RLOO.advantages(scored, RunningMean()).advantages, torch.tensor(by_hand))


def test_the_past_plays_no_part() -> None:
    scored = scored_of(rollout_of([[1], [1]], samples=2), [1.0, 2.0])
    assert torch.equal(
        RLOO.advantages(scored, RunningMean(5, 100.0)).advantages, RLOO.advantages(scored, RunningMean()).advantages
    )


def test_the_loss_sums_over_tokens_and_divides_by_the_whole_batch() -> None:
    advantages, logprobs = torch.tensor([[3.0, 3.0], [-3.0, 8.0]]), torch.tensor([[-1.0, -0.5], [-2.0, -9.0]])
    minibatch = minibatch_of(advantages, [[1, 1], [1, 0]])
    # -(3 * -1.5 + -3 * -2) / 2
    assert float(RLOO.loss(minibatch, Forward(logprobs, None)).loss) == pytest.approx(-0.75)


def test_it_demands_groups_of_two() -> None:
    assert Rloo.min_group == 2
