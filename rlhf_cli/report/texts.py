"""Texts for a page: cut to a length, settings in lines, two texts with their differences marked."""

import re
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any, Final

from rlhf_cli.settings import as_text

LONGEST: Final = 2000
"""Characters of a text that a page shows."""
_WORD: Final = re.compile(r"\s*\S+|\s+\Z")

Words = list[tuple[str, bool]]
"""A text in pieces, and whether only this text has the piece."""


def cut(text: str) -> str:
    """The text, or as much of it as a page shows."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text) - LONGEST} more characters)"


def listing(values: Mapping[str, Any]) -> str:
    """Nested settings, one a line, indented."""
    return "\n".join(_lines(values, ""))


def mark_differences(before: str, after: str) -> tuple[Words, Words]:
    """Both texts, with the words that only one of them has marked.

    Words are compared without the space before them, and in order: a word that moved is marked in both texts.
    """
    old, new = _WORD.findall(before), _WORD.findall(after)
    matcher = SequenceMatcher(None, [word.strip() for word in old], [word.strip() for word in new], autojunk=False)
    left: Words = []
    right: Words = []
    for kind, a, b, c, d in matcher.get_opcodes():
        left += _pieces("".join(old[a:b]), kind != "equal")
        right += _pieces("".join(new[c:d]), kind != "equal")
    return left, right


def _pieces(text: str, is_alone: bool) -> Words:
    """The space before a marked text stays outside the mark, where nothing is underlined."""
    inner = text.lstrip()
    pieces = [(text[: len(text) - len(inner)], False), (inner, is_alone)]
    return [(piece, mark) for piece, mark in pieces if piece]


def _lines(values: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{key}: {cut(as_text(value))}"
