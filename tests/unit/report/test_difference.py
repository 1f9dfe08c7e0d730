"""report.difference: the marks by hand, and nothing of either text lost."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.errors import visible
from rlhf_cli.report.difference import marked


@pytest.mark.parametrize(
    ("before", "after", "left", "right"),
    [
        ("a b c", "a x c", "a <del>b</del> c", "a <ins>x</ins> c"),
        ("a b c d", "a c e", "a <del>b</del> c <del>d</del>", "a c <ins>e</ins>"),
        ("same", "same", "same", "same"),
        ("a\n\nb", "a b", "a\n\nb", "a b"),  # the space before a word is no word
        ("", "new words", "", "<ins>new words</ins>"),
        ("x y", "y x", "x <del>y</del>", "<ins>y</ins> x"),  # a word that moved
        ("a ", "a", "a ", "a"),
        ("cats.", "cats", "<del>cats.</del>", "<ins>cats</ins>"),
        ("a\x1cb", "a b", "a·b", "a b"),
        ("<b>", "&", "<del>&lt;b&gt;</del>", "<ins>&amp;</ins>"),
    ],
)
def test_by_hand(before: str, after: str, left: str, right: str) -> None:
    assert marked(before, after) == (left, right)


WORDS = st.lists(st.sampled_from(["a", "b", "<c", " ", "\n", "&", "\x1b", "d e"]), max_size=12).map(" ".join)


@given(WORDS, WORDS)
def test_each_side_keeps_its_text_and_what_is_unmarked_is_common(before: str, after: str) -> None:
    left, right = marked(before, after)
    assert html.unescape(re.sub("</?del>", "", left)) == visible(before)
    assert html.unescape(re.sub("</?ins>", "", right)) == visible(after)
    common = [re.sub(r"<(del|ins)>.*?</\1>", "", side, flags=re.DOTALL).split() for side in (left, right)]
    assert common[0] == common[1]
