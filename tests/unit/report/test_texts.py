"""report.texts: the marks by hand, nothing of either text lost; how settings are listed and texts are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.report.texts import LONGEST, Words, cut, listing, mark_differences


def shown(words: Words) -> str:
    """The text, with square brackets around what is marked."""
    return "".join(f"[{text}]" if is_alone else text for text, is_alone in words)


@pytest.mark.parametrize(
    ("before", "after", "left", "right"),
    [
        ("a b c", "a x c", "a [b] c", "a [x] c"),
        ("a b c d", "a c e", "a [b] c [d]", "a c [e]"),
        ("same", "same", "same", "same"),
        ("a\n\nb", "a b", "a\n\nb", "a b"),  # the space before a word is no word
        ("", "new words", "", "[new words]"),
        ("x y", "y x", "x [y]", "[y] x"),  # a word that moved
        ("a ", "a", "a ", "a"),
        ("cats.", "cats", "[cats.]", "[cats]"),
        ("a\x1cb", "a b", "a\x1cb", "a b"),
    ],
)
def test_by_hand(before: str, after: str, left: str, right: str) -> None:
    old, new = mark_differences(before, after)
    assert (shown(old), shown(new)) == (left, right)


WORDS = st.lists(st.sampled_from(["a", "b", "<c", " ", "\n", "&", "\x1b", "d e"]), max_size=12).map(" ".join)


@given(WORDS, WORDS)
def test_each_side_keeps_its_text_and_what_is_unmarked_is_common(before: str, after: str) -> None:
    sides = mark_differences(before, after)
    assert ["".join(text for text, _ in side) for side in sides] == [before, after]
    common = ["".join(text for text, is_alone in side if not is_alone).split() for side in sides]
    assert common[0] == common[1]


def test_settings_are_indented() -> None:
    values = {"a": {"b": {"c": None, "d": [1, "x"]}, "e": {}}, "f": "text", "g": True}
    assert listing(values) == 'a:\n  b:\n    c: null\n    d: [1, "x"]\n  e: {}\nf: text\ng: true'


def test_a_long_text_is_cut() -> None:
    assert cut("x" * LONGEST) == "x" * LONGEST
    assert cut("x" * (LONGEST + 3)) == "x" * LONGEST + " … (3 more characters)"
