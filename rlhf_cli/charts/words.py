"""Texts inside a picture or a page: how wide they are, how to shorten them, how to make them safe; what figures say."""

from __future__ import annotations

import html
from typing import Final
from unicodedata import combining, east_asian_width

from rlhf_cli.errors import visible

FONT: Final = 16
"""Size of every text of a picture: a picture 640 wide is still read on a phone, at a little more than half of it."""


def safe(text: str) -> str:
    """`text` for XML or HTML, between tags or in an attribute; what cannot be printed shows as a dot."""
    return html.escape(visible(text))


def width(text: str) -> float:
    """About how wide `text` is, in units of the picture: rather too much, since no font is known here."""
    return FONT * sum(0.0 if combining(c) else 1.0 if east_asian_width(c) in "WF" else 0.56 for c in text)


def shorten(text: str, room: float) -> str:
    """`text`, cut with an ellipsis where it is wider than `room`."""
    if width(text) <= room:
        return text
    end = len(text)
    while end > 0 and width(text[:end] + "…") > room:
        end -= 1
    return text[:end].rstrip() + "…"


def wrap(text: str, room: float) -> list[str]:
    """`text` in lines no wider than `room`; a single word that is wider is shortened."""
    lines: list[str] = []
    for word in text.split():
        if lines and width(f"{lines[-1]} {word}") <= room:
            lines[-1] = f"{lines[-1]} {word}"
        else:
            lines.append(word)
    return [shorten(line, room) for line in lines]
