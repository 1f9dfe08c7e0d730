"""Show a stranger's text as text: nothing in it may move the cursor, hide a letter or turn the direction around."""

import unicodedata
from typing import Final

JOINERS: Final = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
"""Emoji and Persian need them; they hide nothing."""


def readable(text: str) -> str:
    """The text with every invisible character named, such as <U+202E>; spaces, line ends and joiners stay."""
    return "".join(map(_shown, text.replace("\r\n", "\n").expandtabs(4)))


def one_line(text: str) -> str:
    """The same in one line, for a message."""
    return readable(" ".join(text.split()))


def _shown(character: str) -> str:
    if character.isprintable() or character == "\n" or character in JOINERS or unicodedata.category(character) == "Zs":
        return character
    return f"<U+{ord(character):04X}>"
