"""The stages of a step."""

from __future__ import annotations

import dataclasses

import pytest

from rlhf_cli import types
from rlhf_cli.types import Message, Prompt, PromptBatch, PromptRow
from tests.unit.support import rollout_of


def prompt(text: str) -> Prompt:
    return Prompt(PromptRow(text, {}, "test:1"), text, (1, 2))


def test_the_rows_of_a_group_are_neighbours() -> None:
    batch = PromptBatch((prompt("a"), prompt("b")), 3, tuple(range(6)))
    assert len(batch) == 6
    assert [batch.prompt_of(row).text for row in range(6)] == ["a", "a", "a", "b", "b", "b"]


@pytest.mark.parametrize("seeds", [(), (1,), (1, 2, 3, 4, 5)])
def test_a_batch_has_one_seed_a_completion(seeds: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"^{len(seeds)} seeds for 4 completions$"):
        PromptBatch((prompt("a"), prompt("b")), 2, seeds)


def test_a_row_is_shown_as_its_text_or_as_the_last_turn() -> None:
    assert PromptRow("hello", {}, "").shown == "hello"
    assert PromptRow((Message("system", "be kind"), Message("user", "hello")), {}, "").shown == "hello"


def test_lengths_come_from_the_mask() -> None:
    assert rollout_of([[1, 1, 0], [1, 0, 0], [1, 1, 1]]).lengths.tolist() == [2, 1, 3]


@pytest.mark.parametrize(
    "name",
    [
        "Message",
        "PromptRow",
        "Prompt",
        "PromptBatch",
        "KeptSets",
        "Rollout",
        "Scored",
        "Advantages",
        "Minibatch",
        "LossResult",
    ],
)
def test_every_stage_is_frozen(name: str) -> None:
    stage = getattr(types, name)
    field = dataclasses.fields(stage)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(object.__new__(stage), field, None)
