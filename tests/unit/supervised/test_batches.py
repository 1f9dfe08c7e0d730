"""The batch of several examples."""

from __future__ import annotations

import torch

from rlhf_cli.data.preference import Lesson
from rlhf_cli.models.policy import Policy
from rlhf_cli.supervised.batches import Example
from rlhf_cli.types import Prompt
from tests.unit.supervised.support import batch_of, example_of, row_of


def test_rows_are_padded_to_the_longest_and_belong_to_their_prompt(moved: Policy) -> None:
    examples = [example_of(moved, "a", "xyz", "z", share=0.25), example_of(moved, "b", "x", "", margin=2.0)]
    batch = batch_of(moved, examples)
    rollout = batch.rollout
    assert (len(batch), len(rollout.batch), batch.each) == (2, 4, 2)
    assert rollout.lengths.tolist() == [4, 2, 2, 1]
    assert [rollout.batch.prompt_of(row).text for row in range(4)] == ["a", "a", "b", "b"]
    assert rollout.tokens[1].tolist() == [*examples[0].completions[1], moved.pad_token, moved.pad_token]
    assert rollout.texts == ("xyz", "z", "x", "")
    assert (batch.shares.tolist(), batch.margins.tolist()) == ([0.25, 1.0], [0.0, 2.0])
    assert batch.rows(torch.tensor([1, 0])).tolist() == [2, 3, 0, 1]
    assert examples[0].longest == 1 + 4


def test_a_pair_without_a_common_beginning_gives_every_text_its_own_prompt(moved: Policy) -> None:
    prompts = tuple(Prompt(row_of(), text, (number,)) for number, text in enumerate("xy"))
    apart = Example(prompts, ((5, 9), (9,)), Lesson(("xa", "y")))
    batch = batch_of(moved, [example_of(moved, "a", "b", "c"), apart])
    assert [batch.rollout.batch.prompt_of(row).text for row in range(4)] == ["a", "a", "x", "y"]
    assert batch.rows(torch.tensor([1])).tolist() == [2, 3]
