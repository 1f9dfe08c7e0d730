"""GRPO on numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.grpo import Grpo
from rlhf_cli.functional.losses import Aggregation
from rlhf_cli.types import Forward
from tests.unit.support import minibatch_of, rollout_of, scored_of

PAST = RunningMean(5, 100.0)  # plays no part


def grpo(**changes: Any) -> Grpo:
    fields = {"scale_by_std": True, "clip_range": 0.2, "clip_range_high": 0.3, "aggregation": "sum", "epochs": 1}
    return Grpo.model_validate({"kind": "grpo", "minibatch_size": None} | fields | changes)


def test_advantages_in_units_of_the_groups_spread() -> None:
    scored = scored_of(rollout_of([[1, 1], [1, 0], [1, 1]], samples=3), [1.0, 3.0, 5.0])
    # mean 3, deviations -2, 0, 2; variance (4 + 0 + 4) / 2 = 4, so the spread is 2
    by_hand = torch.tensor([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]])
    assert_close(grpo().advantages(scored, PAST).advantages, by_hand, rtol=0, atol=1e-4)


def test_without_the_spread_it_is_the_distance_to_the_mean() -> None:
    scored = scored_of(rollout_of([[1], [1], [1], [1]], samples=2), [1.0, 3.0, -2.0, -2.0])
    found = grpo(scale_by_std=False).advantages(scored, PAST).advantages
    assert found.flatten().tolist() == [-1.0, 1.0, 0.0, 0.0]


def test_a_group_of_equals_earns_nothing_and_rounding_is_not_blown_up() -> None:
    scored = scored_of(rollout_of([[1], [1], [1], [1]], samples=2), [0.5, 0.5, 1e-7, -1e-7])
    found = grpo().advantages(scored, PAST).advantages.flatten()
    assert found[:2].tolist() == [0.0, 0.0]
    assert float(found[2:].abs().max()) < 0.01


def test_a_group_that_differs_by_rounding_earns_nothing_and_is_not_clipped() -> None:
    """By a spread of 1e-8 Adam took a step of full size, and its tokens counted as clipped."""
    more = float(torch.tensor(0.1).nextafter(torch.tensor(1.0)))
    advantages = grpo().advantages(scored_of(rollout_of([[1], [1], [1], [1]], samples=2), [0.1, more, 0.0, 1.0]), PAST)
    found = advantages.advantages.flatten().tolist()
    assert found[:2] == [0.0, 0.0]
    assert found[2:] == pytest.approx([-(0.5**0.5), 0.5**0.5], abs=1e-3)
    # ratio 3 for all: of the two with an advantage, the one above its group's mean is clipped
    loss = grpo().loss(minibatch_of(advantages.advantages, [[1]] * 4), Forward(torch.full((4, 1), 3.0).log(), None))
    assert loss.metrics == {"policy/clip_fraction": 1.0}


def test_the_penalised_return_is_what_is_compared() -> None:
    rollout = rollout_of([[1, 1], [1, 0]], samples=2, logprobs=torch.tensor([[-1.0, -1.0], [-1.0, 0.0]]))
    scored = scored_of(rollout, [1.0, 1.0], ref_logprobs=torch.tensor([[-2.0, -3.0], [-1.5, 0.0]]), beta=0.1)
    # R = 1 - .1 (1 + 2) = .7 and 1 - .1 * .5 = .95
    found = grpo(scale_by_std=False).advantages(scored, PAST).advantages
    assert_close(found, torch.tensor([[-0.125, -0.125], [0.125, 0.0]]))


def test_the_clipped_surrogate() -> None:
    # ratios 1.5 and .5, twice; the smaller of ratio * A and its clipped twin, clipped to [.8, 1.3]
    ratios = torch.tensor([[1.5, 0.5], [1.5, 0.5]])
    advantages = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    # A = 1: min(1.5, 1.3) = 1.3 clipped; min(.5, .8) = .5.  A = -1: min(-1.5, -1.3) = -1.5; min(-.5, -.8) = -.8 clipped
    found = grpo().loss(minibatch_of(advantages, [[1, 1], [1, 1]]), Forward(ratios.log(), None))
    assert float(found.loss) == pytest.approx(-(1.3 + 0.5 - 1.5 - 0.8) / 2)
    assert found.metrics == {"policy/clip_fraction": 2.0}


def test_what_is_clipped_has_no_gradient() -> None:
    logprobs = torch.tensor([[1.5, 0.5], [1.5, 0.5]]).log().requires_grad_()
    advantages = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    grpo().loss(minibatch_of(advantages, [[1, 1], [1, 1]]), Forward(logprobs, None)).loss.backward()
    # d(ratio A)/d logprob = ratio A; minus that over two completions
    assert_close(logprobs.grad, torch.tensor([[0.0, -0.25], [0.75, 0.0]]))


@pytest.mark.parametrize(
    ("aggregation", "by_hand"),
    [
        # -A: -1 at each of 2 + 1 tokens of row one and two, ratio 1
        ("sum", -(2 + 3 * 1) / 2),  # (2 * 1 + 1 * 3) over two completions
        ("constant", -(2 + 3) / 2 / 10),
        ("token_mean", -(2 + 3) / 3),
        ("sequence_mean", -(1 + 3) / 2),
    ],
)
def test_how_tokens_add_up(aggregation: Aggregation, by_hand: float) -> None:
    advantages = torch.tensor([[1.0, 1.0], [3.0, 0.0]])
    minibatch = minibatch_of(advantages, [[1, 1], [1, 0]], aggregation=aggregation, max_new_tokens=10)
    found = grpo(aggregation=aggregation).loss(minibatch, Forward(torch.zeros(2, 2), None))
    assert float(found.loss) == pytest.approx(by_hand)


@pytest.mark.parametrize("changes", [{}, {"epochs": 4}, {"scale_by_std": False}])
def test_the_exact_kl_as_a_loss_would_weigh_too_much(changes: dict[str, Any]) -> None:
    assert "shrinks" in str(grpo(**changes).why_unsound("exact"))
    assert grpo(**changes).why_unsound("reward") is None
    assert grpo(**changes).why_unsound("loss_k2") is None


def test_it_demands_groups_of_two() -> None:
    assert Grpo.min_group == 2
