"""engine.ragged: shared prefixes are read once; positions and predictors are right."""

from __future__ import annotations

import pytest
import torch

from rlhf_cli.engine.ragged import TextTree
from rlhf_cli.types import Prompt, PromptBatch, PromptRow, Rollout


def prompt(*tokens: int) -> Prompt:
    return Prompt(PromptRow("", {}, "test"), "", tokens)


def tree_of(*prompts: Prompt) -> TextTree:
    return TextTree.of_prompts(prompts, 1, torch.float32, torch.device("cpu"))


def test_a_shared_prefix_is_read_once() -> None:
    tree = tree_of(prompt(7, 8, 1), prompt(7, 8, 2, 3), prompt(7, 8, 9))
    assert tree.tokens.tolist() == [7, 8, 1, 2, 3, 9]
    assert tree.positions.tolist() == [0, 1, 2, 2, 3, 2]
    assert tree.ends(-1).tolist() == [2, 4, 5]


@pytest.mark.parametrize(
    ("prompts", "tokens"),
    [
        ([prompt(7, 8)], [7, 8]),
        ([prompt(7, 8), prompt(9)], [7, 8, 9]),
        ([prompt(7, 8, 9), prompt(7, 8)], [7, 8, 9, 8]),  # completions are predicted from the last token: it stays
        ([prompt(7, 8), prompt(7, 8)], [7, 8, 8]),
    ],
    ids=["a single one", "nothing alike", "one the beginning of the other", "twice the same"],
)
def test_every_prompt_keeps_a_token_of_its_own(prompts: list[Prompt], tokens: list[int]) -> None:
    assert tree_of(*prompts).tokens.tolist() == tokens


def test_completions_follow_their_prompts_without_their_last_tokens() -> None:
    batch = PromptBatch((prompt(7, 1), prompt(7, 2, 3)), 2, (0, 1, 2, 3))
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    empty = torch.zeros(4, 3)
    tokens = torch.tensor([[11, 12, 13], [21, 0, 0], [31, 32, 0], [41, 42, 43]])
    rollout = Rollout(batch, tokens, mask, empty, empty[..., None], empty[:, 0] > 0, ("",) * 4, 1.0, None)
    tree = TextTree.of(rollout, torch.tensor([0, 1, 3]), 1, torch.float32)
    assert tree.tokens.tolist() == [7, 1, 2, 3, 11, 12, 41, 42]
    assert tree.positions.tolist() == [0, 1, 1, 2, 2, 3, 3, 4]
    # 11 12 13 behind 1, 21 behind 1, 41 42 43 behind 3
    assert tree.predictors.tolist() == [1, 4, 5, 1, 3, 6, 7]
    assert len(TextTree.of(rollout, torch.tensor([3]), 1, torch.float32).levels) == 2
