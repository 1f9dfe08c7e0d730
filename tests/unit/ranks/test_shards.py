"""A batch that is calculated in shards is the batch that is calculated whole, up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.testing import assert_close

from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.functional.truncation import Truncation
from rlhf_cli.models.policy import Policy
from rlhf_cli.ranks.shards import Shards
from rlhf_cli.ranks.team import Team
from rlhf_cli.types import Rollout
from tests.unit.support import batch_of

TEXTS, SAMPLES = ("Hello there", "a", "What is rain?", "xyz", "Name a colour."), 2


def nothing() -> None:
    """A tick that nobody counts."""


def shards(policy: Policy, count: int) -> Shards:
    return Shards(policy, TransformersEngine(policy), Team(), count)


def sampled(policy: Policy, count: int) -> Rollout:
    """A rollout whose completions end at any of 64 tokens."""
    policy = replace(policy, end_tokens=tuple(range(64)))
    sampling = Sampling(9, 1.2, Truncation(None, 0.9, 0.0))
    return shards(policy, count).sample(batch_of(policy, TEXTS, SAMPLES), sampling, nothing)


def test_shards_sample_the_same_completions(moved: Policy) -> None:
    whole, dealt = sampled(moved, 1), sampled(moved, 3)
    assert dealt.batch == whole.batch
    assert dealt.texts == whole.texts
    assert len(set(whole.lengths.tolist())) > 1
    for name in ("tokens", "completion_mask", "truncated"):
        assert torch.equal(getattr(dealt, name), getattr(whole, name)), name
    for name in ("logprobs", "hidden"):
        assert_close(getattr(dealt, name), getattr(whole, name), rtol=0, atol=1e-4)
    assert whole.kept is not None
    assert dealt.kept is not None
    assert torch.equal(dealt.kept.ids, whole.kept.ids)
    assert torch.equal(dealt.kept.offsets, whole.kept.offsets)


def test_shards_read_the_same_numbers(moved: Policy) -> None:
    whole = sampled(moved, 1)
    one, three = shards(moved, 1), shards(moved, 3)
    (again, weights), (dealt, dealt_weights) = one.recompute(whole, 4, nothing), three.recompute(whole, 4, nothing)
    assert_close(dealt.logprobs, again.logprobs, rtol=0, atol=1e-4)
    assert_close(dealt_weights, weights, rtol=0, atol=1e-4)
    far, dealt_far = (s.measure(again, 4, nothing, keep_hidden=True, slopes=True) for s in (one, three))
    assert far.exact is not None
    assert dealt_far.exact is not None
    assert far.ref_hidden is not None
    assert dealt_far.ref_hidden is not None
    assert far.exact.kl.max() > 1e-3
    for found, expected in (
        (dealt_far.kl, far.kl), (dealt_far.ref_logprobs, far.ref_logprobs), (dealt_far.ref_hidden, far.ref_hidden),
        (dealt_far.exact.kl, far.exact.kl), (dealt_far.exact.entropy, far.exact.entropy),
        *zip(dealt_far.slopes, far.slopes, strict=True),
    ):  # fmt: skip
        assert_close(found, expected, rtol=0, atol=1e-4)
    assert len(far.slopes) == 2
    assert all(slopes.abs().max() > 1e-3 for slopes in far.slopes)
    unmeasured = three.measure(again, 4, nothing, exact=False, slopes=True)
    assert unmeasured.exact is None
    assert unmeasured.slopes == ()


def test_a_process_counts_what_it_calculates_itself(moved_policies: Callable[[str], Policy]) -> None:
    class Pair(Team):
        size = 2

    policy = moved_policies("llama")
    own = Shards(policy, TransformersEngine(policy), Pair(), 3)
    batch = batch_of(policy, TEXTS, SAMPLES)  # prompts 0 and 1 are the first shard's, 4 is the third's
    assert own.own(len(TEXTS)) == [range(2), range(4, 5)]
    assert own.passes(batch, 3) == 2 + 1
    assert own.updates(batch, 3, torch.tensor([1, 2, 6])) == 1
    units = replace(own, units=5)  # prompts 0 and 1 are units now
    assert units.passes(batch, 3) == 2 + 1
    assert units.updates(batch, 3, torch.tensor([1, 2, 6])) == 2


def test_the_first_process_alone_has_an_action(moved: Policy) -> None:
    assert shards(moved, 3).here(lambda: "done") == "done"
