"""The reference's completions: the same ones however they are divided into batches."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf_cli.engine.choice import build_engine
from rlhf_cli.engine.opening import load_policy
from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline import completions
from rlhf_cli.pipeline.completions import reference_rewards, reference_texts
from rlhf_cli.rewards.kinds.characters import Characters
from rlhf_cli.schema import RunConfig
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import PromptBatch, PromptRow
from tests.unit.support import SHAPING, Recorder, config_of, data_fields, rows_of

ROWS = [PromptRow(text, {}, f"test:{i}") for i, text in enumerate(("Hello", "What is rain?", "a"))]
HELD_OUT = rows_of(held_out=ROWS)
LETTERS = {"kind": "characters", "characters": "abcdefghijklmnopqrstuvwxyz"} | SHAPING
LETTERS_ALONE = Characters(kind="characters", characters="abcdefghijklmnopqrstuvwxyz")


def run_of(prompts_at_once: int = 2, samples_at_once: int = 2) -> RunConfig:
    evaluate = {"every": 1, "prompts": 2, "samples": samples_at_once}
    return config_of(prompts_per_step=prompts_at_once, evaluate=evaluate, reward=LETTERS)


def texts_of(policy: Policy, samples: int, temperature: float, *, by_reference: bool = True) -> list[tuple[str, ...]]:
    """The completions of all prompts in one batch, each from the stream that is its own."""
    seeds = tuple(seed_for(0, "oracle", prompt, sample) for prompt in range(3) for sample in range(samples))
    batch = PromptBatch(tuple(policy.encoder.encode(ROWS)), samples, seeds)
    engine = build_engine(policy, run_of().model, lambda text: None)
    texts = engine.sample(batch, Sampling(8, temperature), lambda: None, reference=by_reference).texts
    return [tuple(texts[start : start + samples]) for start in range(0, 3 * samples, samples)]


def test_every_completion_has_its_own_stream_and_its_own_score() -> None:
    texts = texts_of(load_policy(run_of(), print), 5, 1.3)
    assert reference_texts(run_of(9, 9), HELD_OUT, 5, 1.3, Recorder()) == list(zip(ROWS, texts, strict=True))
    found = reference_rewards(run_of(9, 9), HELD_OUT, 5, 1.3, Recorder())
    expected = [LETTERS_ALONE.score([row] * 5, group) for row, group in zip(ROWS, texts, strict=True)]
    assert found == [pytest.approx(scores) for scores in expected]
    assert len({text for group in texts for text in group}) > 10


@pytest.fixture(scope="module")
def in_one_batch() -> tuple[Any, Any]:
    """The scores of the reference's completions, and the completions."""
    whole = run_of(9, 9)
    return (
        reference_rewards(whole, HELD_OUT, 5, 1.0, Recorder()),
        reference_texts(whole, HELD_OUT, 5, 1.0, Recorder()),
    )


@pytest.mark.parametrize(("at_once", "batches"), [((1, 2), 9), ((2, 5), 2), ((1, 7), 3)])
def test_the_completions_do_not_depend_on_the_batches(
    at_once: tuple[int, int], batches: int, in_one_batch: tuple[Any, Any]
) -> None:
    watch, config = Recorder(), run_of(*at_once)
    assert reference_rewards(config, HELD_OUT, 5, 1.0, watch) == in_one_batch[0]
    assert dict(zip(watch.phases, watch.ticks, strict=True))["the reference writes"] == batches * 8  # max_new_tokens
    assert reference_texts(config, HELD_OUT, 5, 1.0, watch) == in_one_batch[1]


def test_it_is_the_reference_that_writes(moved: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = moved, build_engine(moved, run_of(9, 9).model, lambda note: None)
    monkeypatch.setattr(completions, "load_models", lambda config, note: opened)
    found = [texts for _, texts in reference_texts(run_of(9, 9), HELD_OUT, 2, 1.0, Recorder())]
    assert found == texts_of(moved, 2, 1.0)
    assert found != texts_of(moved, 2, 1.0, by_reference=False)


def test_prompts_that_are_all_too_long() -> None:
    short: dict[str, Any] = {"max_prompt_tokens": 1, "too_long": "drop"}
    with pytest.raises(UserError, match="no held-out prompt is left") as caught:
        reference_rewards(config_of(data=data_fields(**short)), rows_of(held_out=ROWS[:2], **short), 2, 1.0, Recorder())
    assert caught.value.exit_code == EXIT_DATA
