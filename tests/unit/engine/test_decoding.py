"""Where a completion ends."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models.policy import Policy
from rlhf_cli.types import PromptBatch, PromptRow
from tests.unit.support import build, tiny

SAMPLING = Sampling(24, 1.0)


@pytest.mark.parametrize("make", [NativeEngine, TransformersEngine])
def test_a_stop_text_ends_it_and_stays_in_it(make: Callable[[Policy], NativeEngine | TransformersEngine]) -> None:
    policy = build(tiny())
    batch = PromptBatch(tuple(policy.encode(PromptRow(text, {}, "f:1")) for text in ("ab", "c")), 4, tuple(range(8)))
    whole = make(policy).sample(batch, SAMPLING, lambda: None)
    two = next(match for text in whole.texts if (match := re.search("[!-~]{2}", text[2:])))
    stop = two.group(), "%"  # of two tokens, and of one
    cut = make(replace(policy, stop_texts=stop)).sample(batch, SAMPLING, lambda: None)
    for row, (before, after) in enumerate(zip(whole.texts, cut.texts, strict=True)):
        ends = [before.find(text) + len(text) for text in stop if text in before]
        assert after == (before[: min(ends)] if ends else before)
        length = int(cut.lengths[row])
        assert torch.equal(cut.tokens[row, :length], whole.tokens[row, :length])
        assert bool(cut.truncated[row]) == (not ends and bool(whole.truncated[row]))
    assert cut.texts != whole.texts


@pytest.mark.parametrize("make", [NativeEngine, TransformersEngine])
def test_who_watches_sees_every_token_as_it_comes_and_changes_none(
    make: Callable[[Policy], NativeEngine | TransformersEngine],
) -> None:
    policy = build(tiny())
    batch = PromptBatch((policy.encode(PromptRow("ab", {}, "f:1")),), 2, (0, 1))
    seen: list[torch.Tensor] = []
    rollout = make(policy).sample(batch, SAMPLING, lambda: None, watch=lambda tokens: seen.append(tokens.clone()))
    assert torch.equal(rollout.tokens, make(policy).sample(batch, SAMPLING, lambda: None).tokens)
    assert [tokens.shape[1] for tokens in seen] == list(range(1, rollout.tokens.shape[1] + 1))
    assert all(torch.equal(tokens, rollout.tokens[:, : tokens.shape[1]]) for tokens in seen)
