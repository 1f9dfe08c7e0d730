"""Held-out evaluation: the same streams every time, whatever the batch."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.evaluation import Evaluation
from rlhf_cli.pipeline.held_out import evaluate
from rlhf_cli.rewards.characters import Characters
from tests.unit.support import batch_of

TEXTS = ("Hello there", "a", "What is rain?", "xyz", "Name a colour.")
REWARD = Characters(kind="characters", characters="abcdefghijklmnopqrstuvwxyz")


def evaluated(policy: Policy, *, step: int = 0, seed: int = 0, at_once: int = 2, microbatch: int = 3) -> Evaluation:
    return evaluate(
        batch_of(policy, TEXTS).prompts,
        TransformersEngine(policy),
        REWARD,
        step=step,
        beta=0.2,
        seed=seed,
        samples=2,
        max_new_tokens=6,
        prompts_at_once=at_once,
        microbatch_size=microbatch,
        tick=lambda: None,
    )


def test_there_is_a_list_a_prompt_and_a_value_a_completion(moved: Policy) -> None:
    found = evaluated(moved, step=8)
    assert (found.step, found.beta) == (8, 0.2)
    for column in (found.reward, found.kl, found.length, found.truncated, found.texts):
        assert [len(group) for group in column] == [2] * 5
    assert all(kl > 0 for group in found.kl for kl in group)
    rows = batch_of(moved, TEXTS).prompts
    scores = [REWARD.score([prompt.row] * 2, texts) for prompt, texts in zip(rows, found.texts, strict=True)]
    assert_close(torch.tensor(found.reward), torch.tensor(scores))


@pytest.mark.parametrize("change", [{"step": 20}, {"at_once": 1}, {"at_once": 5}, {"microbatch": 100}], ids=str)
def test_the_texts_do_not_depend_on(moved: Policy, change: dict[str, int]) -> None:
    one, other = evaluated(moved), evaluated(moved, **change)
    assert one.texts == other.texts
    assert one.length == other.length
    assert_close(torch.tensor(one.kl), torch.tensor(other.kl), rtol=0, atol=1e-4)


def test_the_texts_depend_on_the_seed(moved: Policy) -> None:
    assert evaluated(moved).texts != evaluated(moved, seed=1).texts


def test_the_reference_has_no_kl(moved: Policy) -> None:
    with moved.reference():
        found = evaluated(moved)
    assert max(kl for group in found.kl for kl in group) < 1e-4
