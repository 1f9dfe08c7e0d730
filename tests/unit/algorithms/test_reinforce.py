"""REINFORCE on numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.reinforce import Reinforce
from rlhf_cli.types import Forward, Scored
from tests.unit.support import minibatch_of, rollout_of, scored_of

MASK = [[1, 1, 0], [1, 1, 1]]


def scored() -> Scored:
    """k1 = [.2, .4], [-.2, .4, .6]; beta .5; scores 2, -1: rewards [-.1, 1.8], [.1, -.2, -1.3]; returns 1.7, -1.4."""
    logprobs = torch.tensor([[-1.0, -1.0, 0.0], [-1.0, -1.0, -1.0]])
    ref_logprobs = torch.tensor([[-1.2, -1.4, 0.0], [-0.8, -1.4, -1.6]])
    return scored_of(rollout_of(MASK, logprobs=logprobs), [2.0, -1.0], ref_logprobs=ref_logprobs, beta=0.5)


@pytest.mark.parametrize(
    ("baseline", "by_hand"),
    [
        # returns-to-go: 1.7, 1.8; -1.4, -1.5, -1.3
        ("none", [[1.7, 1.8, 0.0], [-1.4, -1.5, -1.3]]),
        # minus the mean of the returns, (1.7 - 1.4) / 2 = 0.15
        ("mean", [[1.55, 1.65, 0.0], [-1.55, -1.65, -1.45]]),
        # minus the mean of past steps, 0.4
        ("running", [[1.3, 1.4, 0.0], [-1.8, -1.9, -1.7]]),
    ],
)
def test_advantages(baseline: str, by_hand: list[list[float]]) -> None:
    algorithm = Reinforce.model_validate({"kind": "reinforce", "baseline": baseline})
    assert_close(algorithm.advantages(scored(), RunningMean(8, 0.4)).advantages, torch.tensor(by_hand))


@pytest.mark.parametrize("score", [0.1, 0.7, 1 / 3, -12.7])
@pytest.mark.parametrize("size", [1, 3, 6, 7, 11])
def test_equal_returns_have_no_advantage_at_all(score: float, size: int) -> None:
    """Adam takes a full step for any gradient: it would learn the rounding errors of their mean."""
    alike = scored_of(rollout_of([[1, 1]] * size), [score] * size)
    algorithm = Reinforce(kind="reinforce", baseline="mean")
    assert not algorithm.advantages(alike, RunningMean()).advantages.any()


def test_returns_that_differ_by_rounding_have_none_either() -> None:
    scores = [0.7, float(torch.tensor(0.7).nextafter(torch.tensor(1.0))), 0.7]
    algorithm = Reinforce(kind="reinforce", baseline="mean")
    assert not algorithm.advantages(scored_of(rollout_of([[1, 1]] * 3), scores), RunningMean()).advantages.any()
    apart = algorithm.advantages(scored_of(rollout_of([[1, 0], [1, 1]]), [0.7, 0.71]), RunningMean()).advantages
    assert_close(apart, torch.tensor([[-0.005, 0.0], [0.005, 0.005]]))


def test_the_first_step_of_a_running_baseline_has_none() -> None:
    running = Reinforce(kind="reinforce", baseline="running").advantages(scored(), RunningMean())
    none = Reinforce(kind="reinforce", baseline="none").advantages(scored(), RunningMean())
    assert torch.equal(running.advantages, none.advantages)


def test_the_loss_sums_over_tokens_and_divides_by_the_whole_batch() -> None:
    advantages = torch.tensor([[1.0, 2.0, 9.0], [-1.0, 0.5, 4.0]])
    logprobs = torch.tensor([[-1.0, -0.5, -7.0], [-2.0, -1.0, -0.25]])
    # row 1: -1 - 1 = -2 (its third token does not count); row 2: 2 - .5 - 1 = .5; -(-2 + .5) / 2
    found = Reinforce(kind="reinforce", baseline="none").loss(minibatch_of(advantages, MASK), Forward(logprobs, None))
    assert float(found.loss) == pytest.approx(0.75)


def test_the_loss_pushes_up_what_has_a_positive_advantage() -> None:
    logprobs = torch.tensor([[-1.0, -1.0]], requires_grad=True)
    minibatch = minibatch_of(torch.tensor([[2.0, -4.0]]), [[1, 1]])
    Reinforce(kind="reinforce", baseline="none").loss(minibatch, Forward(logprobs, None)).loss.backward()
    assert logprobs.grad.tolist() == [[-2.0, 4.0]]  # -A / B


@pytest.mark.parametrize(("baseline", "refused"), [("none", False), ("mean", True), ("running", False)])
def test_the_exact_kl_as_a_loss_does_not_go_with_a_mean_that_holds_the_completion(baseline: str, refused: bool) -> None:
    algorithm = Reinforce.model_validate({"kind": "reinforce", "baseline": baseline})
    assert (algorithm.why_unsound("exact") is not None) == refused
    assert algorithm.why_unsound("reward") is None
    assert algorithm.why_unsound("loss_k2") is None
