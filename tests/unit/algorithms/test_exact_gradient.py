"""The expected gradient over every possible batch is the gradient of J = E[r] - beta KL, term by term."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.testing import assert_close

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.grpo import Grpo
from rlhf_cli.algorithms.placement import Placement
from rlhf_cli.algorithms.ppo import Ppo
from rlhf_cli.algorithms.reinforce import Reinforce
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.types import Advantages, Forward, LossResult, Minibatch, Scored
from tests.unit.algorithms.enumerated import (
    BETA,
    COMPLETIONS,
    ENDED,
    MASK,
    NOTHING,
    POLICY,
    REFERENCE,
    SCORES,
    batch_gradients,
    engine_at,
    expected_gradient,
    gradient_of,
    logprobs,
    objective,
    optimum,
    random,
)
from tests.unit.support import config_of

NONE, RUNNING, RLOO = (
    Reinforce(kind="reinforce", baseline="none"),
    Reinforce(kind="reinforce", baseline="running"),
    Rloo(kind="rloo"),
)


def grpo(**changes: Any) -> Grpo:
    """GRPO without the spread, one pass."""
    fields = {"scale_by_std": False, "clip_range": 0.2, "clip_range_high": 0.2, "aggregation": "sum"}
    return Grpo.model_validate({"kind": "grpo", "epochs": 1, "minibatch_size": None} | fields | changes)


def ppo(**changes: Any) -> Ppo:
    """PPO with nothing that biases it: the whole return, no whitening, one pass."""
    fields = {"clip_range": 0.2, "vf_coef": 0.0, "value_clip_range": None, "gamma": 1.0, "gae_lambda": 1.0}
    fields |= {"whiten": False, "aggregation": "sum", "epochs": 1, "minibatch_size": None}
    return Ppo.model_validate({"kind": "ppo"} | fields | changes)


def test_the_enumerated_completions_are_complete() -> None:
    assert float(logprobs(POLICY).sum(1).exp().sum()) == pytest.approx(1.0, abs=1e-12)
    everything = engine_at(POLICY).all_completions()
    assert everything.texts == tuple(" ".join(map(str, completion)) for completion in COMPLETIONS)
    assert torch.equal(everything.completion_mask, MASK)
    assert_close(everything.logprobs, logprobs(POLICY))


def test_the_gradient_is_not_small_so_that_agreement_means_something() -> None:
    assert float(gradient_of(objective).abs().max()) > 0.05


@pytest.mark.parametrize(
    ("algorithm", "completions", "placement", "past"),
    [
        (NONE, 1, "reward", NOTHING),
        (NONE, 2, "reward", NOTHING),
        (RUNNING, 2, "reward", RunningMean(10, 0.7)),
        (RLOO, 2, "reward", NOTHING),
        (RLOO, 3, "reward", NOTHING),
        (NONE, 1, "exact", NOTHING),
        (RUNNING, 2, "exact", RunningMean(10, 0.7)),
        (RLOO, 2, "exact", NOTHING),
        (RLOO, 3, "exact", NOTHING),
        (NONE, 1, "loss_k2_sequence", NOTHING),
        (RUNNING, 2, "loss_k2_sequence", RunningMean(10, 0.7)),
        (RLOO, 2, "loss_k2_sequence", NOTHING),
    ],
    ids=lambda value: getattr(value, "kind", value) if not isinstance(value, RunningMean) else str(value.mean),
)
def test_unbiased(algorithm: Algorithm, completions: int, placement: Placement, past: RunningMean) -> None:
    found = expected_gradient(algorithm, completions, placement=placement, past=past)
    assert_close(found, gradient_of(objective), rtol=0, atol=1e-6)


@pytest.mark.parametrize("completions", [2, 3])
@pytest.mark.parametrize(
    ("algorithm", "placement"),
    [(Reinforce(kind="reinforce", baseline="mean"), "reward"), (grpo(), "reward")],
    ids=["reinforce, batch mean", "grpo without the spread"],
)
def test_a_mean_that_holds_the_completion_itself_shrinks_the_gradient_by_one_completion(
    algorithm: Algorithm, placement: Placement, completions: int
) -> None:
    found = expected_gradient(algorithm, completions, placement=placement)
    assert_close(found, gradient_of(objective) * (completions - 1) / completions, rtol=0, atol=1e-6)


def test_a_constant_length_only_scales_it() -> None:
    found = expected_gradient(grpo(aggregation="constant"), 2)  # max_new_tokens = 2
    assert_close(found, gradient_of(objective) / 2 / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
def test_means_over_tokens_change_its_direction(aggregation: str) -> None:
    assert off_direction(expected_gradient(grpo(aggregation="sum"), 2)) < 1e-9
    assert off_direction(expected_gradient(grpo(aggregation=aggregation), 2)) > 1e-3


def test_without_cut_completions_rloo_follows_the_objective_of_those_that_end() -> None:
    found = expected_gradient(RLOO, 3, truncated="mask")
    assert_close(found, gradient_of(objective_of_ended), rtol=0, atol=1e-6)


def test_grpo_follows_it_up_to_its_size() -> None:
    found = expected_gradient(grpo(), 2, truncated="mask")
    assert off_direction(found, objective_of_ended) < 1e-6


@pytest.mark.parametrize(("baseline", "off"), [("none", 0.4), ("running", 0.4), ("mean", 0.05)])
def test_reinforce_does_not_follow_it_and_is_refused(baseline: str, off: float) -> None:
    one = Reinforce.model_validate({"kind": "reinforce", "baseline": baseline})
    assert off_direction(expected_gradient(one, 2, truncated="mask"), objective_of_ended) > off
    with pytest.raises(ValidationError, match=r"algorithm=reinforce refuses truncated=mask: .*algorithm=rloo"):
        config_of(algorithm=one.model_dump(), reward=config_of().reward.model_dump() | {"truncated": "mask"})


def objective_of_ended(table: Tensor) -> Tensor:
    """E[r | ended] - beta KL(policy | ended || reference | ended), over the completions that end by themselves."""
    policy = torch.log_softmax(logprobs(table).sum(1)[ENDED], 0)
    reference = torch.log_softmax(logprobs(REFERENCE).sum(1)[ENDED], 0)
    return (policy.exp() * (SCORES[ENDED] - BETA * (policy - reference))).sum()


@pytest.mark.parametrize("placement", ["reward", "exact"])
def test_at_the_optimum_the_noise_of_kl_in_the_reward_vanishes_and_that_of_the_exact_kl_does_not(
    placement: Placement,
) -> None:
    gradients = [g for _, g in batch_gradients(RLOO, 2, policy=optimum(), placement=placement)]
    assert (max(float(gradient.abs().max()) for gradient in gradients) < 1e-6) is (placement == "reward")
    assert float(expected_gradient(RLOO, 2, policy=optimum(), placement=placement).abs().max()) < 1e-6


def off_direction(found: Tensor, aim: Callable[[Tensor], Tensor] = objective) -> float:
    """The share of `found` that no scaling of the gradient of `aim` explains."""
    true = gradient_of(aim)
    along = (found * true).sum() / (true * true).sum() * true
    return float((found - along).norm() / along.norm())


class WithValues(Ppo):
    """PPO whose value head says something arbitrary about every state, and is not trained."""

    def advantages(self, scored: Scored, past: RunningMean) -> Advantages:
        mask, tokens = scored.rollout.completion_mask, scored.rollout.tokens
        states = torch.stack([torch.zeros_like(tokens[:, 0]), 1 + tokens[:, 0]], 1)
        return super().advantages(replace(scored, values=random(4, seed=9)[states] * mask), past)

    def loss(self, minibatch: Minibatch, forward: Forward) -> LossResult:
        blank = torch.zeros_like(minibatch.advantages)
        return super().loss(replace(minibatch, values=blank), replace(forward, values=blank))


def with_values(**changes: Any) -> WithValues:
    return WithValues.model_validate(ppo(**changes).model_dump())


@pytest.mark.parametrize("placement", ["reward", "exact"])
def test_ppo_on_the_first_pass_with_the_whole_return(placement: Placement) -> None:
    """Its value head is a baseline that knows only the state, so any values leave the gradient where it is."""
    found = expected_gradient(with_values(), 1, placement=placement)
    assert_close(found, gradient_of(objective), rtol=0, atol=1e-6)


@pytest.mark.parametrize("changes", [{"whiten": True}, {"gamma": 0.5}], ids=str)
def test_ppo_refuses_the_exact_kl_where_the_reward_beside_it_is_rescaled(changes: dict[str, Any]) -> None:
    assert ppo(**changes).why_unsound("exact") is not None
    assert off_direction(expected_gradient(with_values(**changes), 2, placement="exact")) > 0.01


def test_ppo_refuses_the_exact_kl_where_a_value_stands_for_the_reward() -> None:
    assert ppo(gae_lambda=0.5).why_unsound("exact") == (
        "the value head would stand for the rest of the return: algorithm.gae_lambda=1, or kl=reward"
    )
    assert off_direction(expected_gradient(with_values(gae_lambda=0.5), 1, placement="exact")) > 0.01


def test_the_groups_spread_changes_the_gradient() -> None:
    assert off_direction(expected_gradient(grpo(scale_by_std=True), 3)) > 0.05


@pytest.mark.parametrize("algorithm", [NONE, RLOO], ids=["none", "rloo"])
@pytest.mark.parametrize("placement", ["reward", "exact"])
def test_another_sampler_is_corrected_for(algorithm: Algorithm, placement: Placement) -> None:
    """Weights for whole completions, below their limit of 2, leave no bias; without them there is one."""
    sampler = POLICY + 0.1 * random(4, 3, seed=7)
    weights = (logprobs(POLICY) - logprobs(sampler)).sum(1).exp()
    assert 1.05 < float(weights.max()) < 2
    found = expected_gradient(algorithm, 2, placement=placement, sampler=sampler)
    assert_close(found, gradient_of(objective), rtol=0, atol=1e-6)
    whole, reference = logprobs(POLICY).sum(1), logprobs(REFERENCE).sum(1)
    returns = SCORES - BETA * (whole - reference)
    uncorrected = gradient_of(lambda table: (logprobs(sampler).sum(1).exp() * returns * logprobs(table).sum(1)).sum())
    assert float((uncorrected - gradient_of(objective)).abs().max()) > 1e-3


def test_without_a_baseline_a_past_mean_is_ignored() -> None:
    assert torch.equal(expected_gradient(NONE, 1, past=RunningMean(10, 5.0)), expected_gradient(NONE, 1))


@pytest.mark.parametrize("algorithm", [Reinforce(kind="reinforce", baseline="mean"), grpo()], ids=["mean", "grpo"])
def test_a_mean_that_holds_the_completion_makes_the_exact_kl_weigh_too_much(algorithm: Algorithm) -> None:
    """The reward's part shrinks by (B - 1) / B, the KL's loss does not: so `why_unsound` refuses them."""
    assert algorithm.why_unsound("exact") is not None
    assert off_direction(expected_gradient(algorithm, 2, placement="exact")) > 0.01
