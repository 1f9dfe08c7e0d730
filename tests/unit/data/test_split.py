"""Which rows are held out."""

from __future__ import annotations

import hashlib

from rlhf_cli.data.split import set_aside
from rlhf_cli.types import Message, PromptRow


def row(text: str, answer: int = 0) -> PromptRow:
    return PromptRow(text, {"answer": answer}, "f:1")


ROWS = [row(text) for text in "abcdefgh"]
BY_HASH = sorted("abcdefgh", key=lambda text: hashlib.sha256(text.encode()).digest())


def test_the_prompts_with_the_smallest_hashes_are_held_out() -> None:
    train, held_out, twins = set_aside(ROWS, 3)
    assert [one.shown for one in held_out] == BY_HASH[:3]
    assert [one.shown for one in train] == [text for text in "abcdefgh" if text not in BY_HASH[:3]]
    assert twins == 0


def test_rows_of_one_prompt_stay_together_and_the_rest_of_them_is_left_out() -> None:
    first, second, *_ = BY_HASH
    rows = [*ROWS, row(second, 5), row(second, 7)]
    train, held_out, twins = set_aside(rows, 2)
    assert [one.shown for one in held_out] == [first, second]
    assert (len(train), twins) == (6, 2)
    assert [one.shown for one in set_aside(rows, 4)[1]] == [first, second, second, second]


def test_a_count_above_the_number_of_rows_holds_out_all() -> None:
    assert [len(part) for part in set_aside(ROWS, 9)[:2]] == [0, 8]


def test_a_count_of_zero_and_an_empty_file_hold_out_none() -> None:
    assert set_aside(ROWS, 0) == (ROWS, [], 0)
    assert set_aside([], 3) == ([], [], 0)


def test_chats_are_held_out_too() -> None:
    rows = [PromptRow((Message("user", text),), {}, "f:1") for text in "abcdefgh"]
    train, held_out, _ = set_aside(rows, 3)
    assert len({one.prompt for one in (*train, *held_out)}) == 8
    assert set_aside(rows[::-1], 3)[1] == held_out
