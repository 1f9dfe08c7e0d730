"""charts.words."""

from __future__ import annotations

import pytest

from rlhf_cli.charts.words import safe, shorten, width, wrap


def test_words_are_wrapped_at_spaces_and_shortened_where_one_is_too_long() -> None:
    room = width("mmmm mmmm")
    assert wrap("mmmm mmmm mm mmmmmmmmmmmm", room) == ["mmmm mmmm", "mm", "mmmmmmmm…"]
    assert wrap("", room) == []


def test_shortening_keeps_what_fits() -> None:
    assert shorten("abc", width("abc")) == "abc"
    assert shorten("abcd", width("abc")) == "ab…"
    assert shorten("ab cd", width("abc…")) == "ab…"
    assert shorten("abc", 0.0) == "…"


def test_a_wide_character_takes_the_room_of_its_own() -> None:
    assert width("\N{HIRAGANA LETTER A}") == 16
    assert width("e\N{COMBINING ACUTE ACCENT}") == width("e")
    assert width("ab") == pytest.approx(2 * 0.56 * 16)


@pytest.mark.parametrize(("text", "made"), [("<&\"'>", "&lt;&amp;&quot;&#x27;&gt;"), ("a\x1b\ud800", "a··")])
def test_what_is_made_safe(text: str, made: str) -> None:
    assert safe(text) == made
