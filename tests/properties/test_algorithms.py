"""Properties of advantages and baselines."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch.nn.functional import pad
from torch.testing import assert_close

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.grpo import Grpo
from rlhf_cli.algorithms.reinforce import Reinforce
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.functional.losses import token_weights
from rlhf_cli.types import Forward, Minibatch, Scored
from tests.unit.support import rollout_of, scored_of

scores = st.floats(-10, 10)
CLIPPED = {"clip_range": 0.2, "aggregation": "token_mean", "epochs": 1, "minibatch_size": None}
REINFORCE = {"kind": "reinforce", "baseline": "mean"}
GRPO = CLIPPED | {"kind": "grpo", "scale_by_std": True, "clip_range_high": 0.3, "aggregation": "sequence_mean"}
PPO = CLIPPED | {
    "kind": "ppo",
    "vf_coef": 0.5,
    "value_clip_range": 0.2,
    "gamma": 0.9,
    "gae_lambda": 0.8,
    "whiten": True,
}


@st.composite
def rollouts(draw: st.DrawFn) -> Scored:
    """Groups of completions of any length, with scores and KL."""
    samples = draw(st.integers(2, 4))
    lengths = draw(st.lists(st.integers(1, 5), min_size=samples, max_size=samples)) * draw(st.integers(1, 3))
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    logprobs, reference = (
        torch.randn(mask.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(draw(st.integers(0, 999))))
        * mask
        for _ in range(2)
    )
    rollout = rollout_of(mask, samples=samples, logprobs=logprobs)
    given_scores = draw(st.lists(scores, min_size=len(mask), max_size=len(mask)))
    return scored_of(rollout, given_scores, ref_logprobs=reference, beta=draw(st.floats(0, 1)))


@given(rollouts())
def test_rloo_sums_to_zero_over_a_group_and_is_the_same_at_every_token(scored: Scored) -> None:
    found = Rloo(kind="rloo").advantages(scored, RunningMean()).advantages
    first = found[:, 0].view(-1, scored.rollout.batch.samples_per_prompt)
    assert_close(first.sum(1), torch.zeros(len(first), dtype=found.dtype), rtol=0, atol=1e-9)
    assert torch.equal(found, found[:, :1] * scored.rollout.completion_mask)


@given(rollouts(), st.floats(-100, 100))
def test_rloo_does_not_see_what_all_completions_of_a_prompt_share(scored: Scored, shift: float) -> None:
    samples = scored.rollout.batch.samples_per_prompt
    moved = scored.scores + torch.arange(len(scored.scores)) // samples * shift
    other = scored_of(scored.rollout, moved, ref_logprobs=scored.distance.ref_logprobs, beta=scored.beta)
    found, expected = (Rloo(kind="rloo").advantages(s, RunningMean()).advantages for s in (other, scored))
    assert_close(found, expected, rtol=0, atol=1e-9)


@given(rollouts(), st.floats(0.5, 50), st.floats(-100, 100))
def test_grpo_in_units_of_the_spread_sees_neither_scale_nor_shift(scored: Scored, scale: float, shift: float) -> None:
    spread = Grpo.model_validate(GRPO | {"scale_by_std": True})
    wide = scored.scores + torch.arange(len(scored.scores)) * 3.0  # far beyond the 1e-4 that is added to the spread
    plain, moved = (scored_of(scored.rollout, values) for values in (wide, wide * scale + shift))
    found, expected = (spread.advantages(s, RunningMean()).advantages for s in (moved, plain))
    assert_close(found, expected, rtol=0, atol=2e-3)
    assert float(expected.abs().max()) > 0.5


@given(rollouts())
def test_grpo_without_the_spread_is_a_fixed_share_of_rloo(scored: Scored) -> None:
    samples = scored.rollout.batch.samples_per_prompt
    found = Grpo.model_validate(GRPO | {"scale_by_std": False}).advantages(scored, RunningMean()).advantages
    rloo = Rloo(kind="rloo").advantages(scored, RunningMean()).advantages
    assert_close(found, rloo * (samples - 1) / samples, rtol=0, atol=1e-9)


@given(rollouts(), st.integers(1, 4), st.sampled_from([REINFORCE, {"kind": "rloo"}, GRPO, PPO]))
def test_padding_changes_neither_the_advantages_nor_the_loss(
    scored: Scored, columns: int, fields: dict[str, Any]
) -> None:
    algorithm: Algorithm = TypeAdapter(Algorithm).validate_python(fields)
    values = scored.rollout.logprobs.cos() * scored.rollout.completion_mask
    scored = replace(scored, values=values)
    padded = replace(
        scored_of(
            rollout_of(
                pad(scored.rollout.completion_mask, (0, columns)),
                samples=scored.rollout.batch.samples_per_prompt,
                logprobs=pad(scored.rollout.logprobs, (0, columns)),
            ),
            scored.scores,
            ref_logprobs=pad(scored.distance.ref_logprobs, (0, columns)),
            beta=scored.beta,
        ),
        values=pad(values, (0, columns)),
    )
    short, long = (algorithm.advantages(s, RunningMean()) for s in (scored, padded))
    assert_close(long.advantages, pad(short.advantages, (0, columns)), rtol=0, atol=1e-9)
    losses = []
    for one in (short, long):
        s = one.scored
        weights = token_weights(s.rollout.completion_mask, algorithm.aggregation, 9)
        minibatch = Minibatch(s.rollout.logprobs, one.advantages, weights, s.values, one.returns)
        losses.append(algorithm.loss(minibatch, Forward(s.rollout.logprobs * 1.1, s.values)).loss)
    assert_close(losses[1], losses[0], rtol=0, atol=1e-9)


@given(rollouts(), st.sampled_from(["none", "mean", "running"]), scores)
def test_reinforce_begins_with_the_whole_return_and_ends_with_the_last_reward(
    scored: Scored, baseline: str, past: float
) -> None:
    algorithm = Reinforce.model_validate({"kind": "reinforce", "baseline": baseline})
    found = algorithm.advantages(scored, RunningMean(3, past)).advantages
    mask, returns = scored.rollout.completion_mask, scored.rewards.sum(1)
    expected = {"none": 0.0, "mean": float(returns.mean()), "running": past}[baseline]
    assert_close(found[:, 0], returns - expected, rtol=0, atol=1e-6)
    last = (mask.sum(1) - 1)[:, None]
    assert_close(found.gather(1, last), scored.rewards.gather(1, last) - expected, rtol=0, atol=1e-6)
    assert not found[~mask].any()


@given(st.lists(st.lists(scores, min_size=1, max_size=6), max_size=8))
def test_the_running_mean_is_the_plain_mean_of_everything(batches: list[list[float]]) -> None:
    found = RunningMean()
    for batch in batches:
        found = found.observe(torch.tensor(batch, dtype=torch.float64))
    everything = [value for batch in batches for value in batch]
    assert found.count == len(everything)
    assert math.isclose(found.mean, fmean(everything) if everything else 0.0, rel_tol=1e-9, abs_tol=1e-9)
