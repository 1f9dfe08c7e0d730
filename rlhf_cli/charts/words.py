"""Measure, shorten, wrap and escape the texts of a picture."""

import html
from typing import Final
from unicodedata import combining, east_asian_width

from rlhf_cli.errors import visible

FONT: Final = 16
"""Size of every text. A picture 480 wide shrinks to three quarters on a phone, and stays readable."""


def safe(text: str) -> str:
    """Escape `text` for XML, between tags or in an attribute. Characters that cannot be printed become dots."""
    return html.escape(visible(text))


def width(text: str) -> float:
    """Width of `text` in units of the picture. It is an upper estimate, since the font is not known."""
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
    """`text` in lines no wider than `room`. A single word that is wider is shortened."""
    lines: list[str] = []
    for word in text.split():
        if lines and width(f"{lines[-1]} {word}") <= room:
            lines[-1] = f"{lines[-1]} {word}"
        else:
            lines.append(word)
    return [shorten(line, room) for line in lines]
