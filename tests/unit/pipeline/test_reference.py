"""The reference's completions: the same ones however they are divided into batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlhf_cli.engine.choice import build_engine
from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline import reference
from rlhf_cli.pipeline.reference import reference_rewards
from rlhf_cli.rewards.kinds.characters import Characters
from rlhf_cli.schema import RunConfig
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import PromptBatch, PromptRow, Rollout
from tests.unit.support import SHAPING, Recorder, config_of, data_fields, rows_of

ROWS = [PromptRow(text, {}, f"test:{i}") for i, text in enumerate(("Hello", "What is rain?", "a"))]
HELD_OUT = rows_of(held_out=ROWS)
LETTERS = {"kind": "characters", "characters": "abcdefghijklmnopqrstuvwxyz"} | SHAPING
LETTERS_ALONE = Characters(kind="characters", characters="abcdefghijklmnopqrstuvwxyz")


def run_of(prompts_at_once: int = 2, samples_at_once: int = 2) -> RunConfig:
    evaluate = {"every": 1, "prompts": 2, "samples": samples_at_once}
    return config_of(prompts_per_step=prompts_at_once, evaluate=evaluate, reward=LETTERS)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Rollout]:
    """Every rollout that is sampled in the test."""
    written: list[Rollout] = []
    monkeypatch.setattr("rlhf_cli.engine.choice.logit_difference", lambda policy, engine: 0.0)
    for kind in (NativeEngine, TransformersEngine):

        def noted(engine: Any, batch: PromptBatch, *arguments: Any, sample: Any = kind.sample, **named: Any) -> Rollout:
            written.append(sample(engine, batch, *arguments, **named))
            return written[-1]

        monkeypatch.setattr(kind, "sample", noted)
    return written


def test_every_completion_has_its_own_stream_and_its_own_score(batches: list[Rollout]) -> None:
    found = reference_rewards(run_of(9, 9), HELD_OUT, 5, 1.3, Recorder())
    (rollout,) = batches
    assert rollout.temperature == 1.3
    assert rollout.batch.seeds == tuple(seed_for(0, "oracle", p, s) for p in range(3) for s in range(5))
    scores = LETTERS_ALONE.score([row for row in ROWS for _ in range(5)], rollout.texts)
    assert found == [pytest.approx(scores[start : start + 5]) for start in (0, 5, 10)]


@pytest.mark.parametrize("at_once", [(1, 2), (2, 2), (1, 5), (2, 5), (1, 7)])
def test_the_rewards_do_not_depend_on_the_batches(at_once: tuple[int, int], batches: list[Rollout]) -> None:
    whole = reference_rewards(run_of(9, 9), HELD_OUT, 5, 1.0, Recorder())
    batches.clear()
    assert reference_rewards(run_of(*at_once), HELD_OUT, 5, 1.0, Recorder()) == whole
    assert max(len(rollout.batch) for rollout in batches) <= at_once[0] * at_once[1]
    assert sum(len(rollout.batch) for rollout in batches) == 15


def test_it_is_the_reference_that_writes(
    moved: Policy, monkeypatch: pytest.MonkeyPatch, batches: list[Rollout]
) -> None:
    monkeypatch.setattr(reference, "load_policy", lambda config: moved)
    reference_rewards(run_of(9, 9), HELD_OUT, 2, 1.0, Recorder())
    engine = build_engine(moved, run_of().model, lambda said: None)
    expected = engine.sample(batches[0].batch, 8, 1.0, lambda: None, reference=True)
    assert torch.equal(batches[0].tokens, expected.tokens)
    by_policy = engine.sample(batches[0].batch, 8, 1.0, lambda: None)
    assert not torch.equal(by_policy.tokens, expected.tokens)


def test_prompts_that_are_all_too_long() -> None:
    short: dict[str, Any] = {"max_prompt_tokens": 1, "too_long": "drop"}
    with pytest.raises(UserError, match="no held-out prompt is left") as caught:
        reference_rewards(config_of(data=data_fields(**short)), rows_of(held_out=ROWS[:2], **short), 2, 1.0, Recorder())
    assert caught.value.exit_code == EXIT_DATA
