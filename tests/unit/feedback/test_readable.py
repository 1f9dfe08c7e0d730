"""feedback.readable."""

from __future__ import annotations

import pytest

from rlhf_cli.feedback.readable import one_line, readable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\nlines", "plain\nlines"),
        ("a\r\nb\tc", "a\nb   c"),
        ("\x1b[2J", "<U+001B>[2J"),
        ("safe \u202etxt.exe", "safe <U+202E>txt.exe"),
        ("zero\u200bwidth", "zero<U+200B>width"),
        ("a\u00a0b\u3000c", "a\u00a0b\u3000c"),
        ("\U0001f468\u200d\U0001f33e", "\U0001f468\u200d\U0001f33e"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("\ud800", "<U+D800>"),
    ],
)
def test_every_invisible_character_is_named(text: str, shown: str) -> None:
    assert readable(text) == shown


def test_a_message_has_one_line() -> None:
    assert one_line(" a\n\n b\x07 ") == "a b<U+0007>"
