"""The share of characters that belong to a set."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rlhf_cli.rewards.kinds.characters import Characters
from rlhf_cli.types import PromptRow


def scores(reward: Characters, texts: Sequence[str]) -> list[float]:
    return reward.score([PromptRow("p", {}, "f:1")] * len(texts), texts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0.0), ("a", 1.0), ("abc", 1.0), ("ABC", 0.0), ("a b ", 0.5), ("xa", 0.5), ("ééa", 1 / 3), ("\n\x00c", 1 / 3)],
)
def test_characters_counts_the_share_of_its_set(text: str, expected: float) -> None:
    assert scores(Characters(kind="characters", characters="abc"), [text]) == [pytest.approx(expected)]


def test_a_character_named_twice_counts_once() -> None:
    assert scores(Characters(kind="characters", characters="aab"), ["ax"]) == [0.5]


def test_a_score_does_not_depend_on_the_texts_beside_it() -> None:
    reward = Characters(kind="characters", characters="aeiou")
    texts = ["I love it", "I hate it", "", "a table"]
    assert scores(reward, texts) == [scores(reward, [text])[0] for text in texts]
    assert scores(reward, []) == []
