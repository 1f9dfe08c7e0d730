"""The answer in a completion, on which a majority votes."""

from __future__ import annotations

import pytest

from tests.unit.rewards.support import made

TEXT = " So <answer>1/2</answer>, or x=7.\n"


@pytest.mark.parametrize(
    ("kind", "extract", "answer"),
    [
        ("exact_match", None, TEXT.strip()),
        ("exact_match", r"x=(\s*\d)", "7"),
        ("exact_match", r"y=(\d)", None),
        ("math", None, "1/2"),
        ("math", r"x=(\s*\d)", "7"),
        ("math", r"y=(\d)", None),
    ],
)
def test_the_answer_is_the_one_that_is_compared(kind: str, extract: str | None, answer: str | None) -> None:
    assert made(kind, extract=extract).answer(TEXT) == answer


def test_the_answer_to_a_reward_of_another_kind_is_the_text() -> None:
    assert made("sentiment").answer(" Fine. ") == "Fine."


@pytest.mark.parametrize(
    ("pattern", "value", "wrong"),
    [
        (None, "72", None),
        (r"#### (\d+)", "so #### 72", None),
        (r"#### (\d+)", "72", "has no match for extract_expected"),
        (r"#### (\d+)", None, "is missing"),
    ],
)
def test_a_row_without_a_right_answer_is_wrong(pattern: str | None, value: str | None, wrong: str | None) -> None:
    assert made("exact_match", extract_expected=pattern).wrong_value(value) == wrong
