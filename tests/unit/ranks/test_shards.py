"""A batch that is calculated in shards is the batch that is calculated whole, up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.functional.truncation import Truncation
from rlhf_cli.models.policy import Policy
from rlhf_cli.ranks.shards import Shards, sample_shard
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


@pytest.mark.parametrize("count", [2, 3])
def test_shards_sample_the_same_completions(moved: Policy, count: int) -> None:
    whole, dealt = sampled(moved, 1), sampled(moved, count)
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


@pytest.mark.parametrize("count", [2, 3])
def test_shards_read_the_same_numbers(moved: Policy, count: int) -> None:
    whole = sampled(moved, 1)
    one, more = shards(moved, 1), shards(moved, count)
    (again, weights), (dealt, dealt_weights) = one.recompute(whole, 4, nothing), more.recompute(whole, 4, nothing)
    assert_close(dealt.logprobs, again.logprobs, rtol=0, atol=1e-4)
    assert_close(dealt_weights, weights, rtol=0, atol=1e-4)
    far, dealt_far = (s.measure(again, 4, nothing, keep_hidden=True, slopes=True) for s in (one, more))
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
    unmeasured = more.measure(again, 4, nothing, exact=False, slopes=True)
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


class Sent(Team):
    """Answers nothing but the task and the parts that it was given."""

    def map(self, policy: Any, engine: Any, task: Any, parts: Any, tick: Any) -> list[Any]:
        raise Asked(task.__name__, dict(parts))


class Asked(Exception):
    """The task and the parts that a process was sent."""


def test_what_is_sent_to_a_process(moved: Policy) -> None:
    sender = Shards(moved, TransformersEngine(moved), Sent(), 2)
    batch, sampling = batch_of(moved, ("a", "b")), Sampling(3, 1.0)
    rollout = shards(moved, 1).sample(batch, sampling, nothing)

    def asked(call: Callable[[], object]) -> tuple[str, dict[int, list[Any]]]:
        with pytest.raises(Asked) as caught:
            call()
        name, parts = caught.value.args
        return name, {number: [*part[1:]] for number, part in parts.items()}

    for call, expected in (
        (lambda: sender.sample(batch, sampling, nothing), ("sample_shard", [sampling, False, None])),
        (lambda: sender.sample(batch, sampling, nothing, reference=True), ("sample_shard", [sampling, True, None])),
        (lambda: sender.sample(batch, sampling, nothing, remember=4), ("sample_shard", [sampling, False, 4])),
        (lambda: sender.recompute(rollout, 5, nothing), ("recompute_shard", [5, False])),
        (lambda: sender.measure(rollout, 5, nothing), ("measure_shard", [5, True, False, False])),
        (lambda: sender.values(rollout, 5), ("value_shard", [5])),
    ):
        assert asked(call) == (expected[0], {0: expected[1], 1: expected[1]})
    assert asked(lambda: sender.here(lambda: None)) == ("act", {0: []})  # the first process's own
    assert shards(moved, 3).here(lambda: "done") == "done"


def test_the_native_engine_alone_remembers_a_pass(
    moved_policies: Callable[[str], Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = moved_policies("llama")
    asked: list[tuple[str, dict[str, Any]]] = []
    for kind in (NativeEngine, TransformersEngine):
        monkeypatch.setattr(kind, "sample", lambda self, *_, **named: asked.append((type(self).__name__, named)))
    batch, sampling = batch_of(moved, ("a",)), Sampling(3, 1.0)
    for engine in (NativeEngine(moved), TransformersEngine(moved)):
        for remember in (None, 2):
            sample_shard(moved, engine, batch, sampling, True, remember, tick=nothing)
    other = {"reference": True}
    assert asked == [
        ("NativeEngine", other), ("NativeEngine", {"remember": 2}),
        ("TransformersEngine", other), ("TransformersEngine", other),
    ]  # fmt: skip
