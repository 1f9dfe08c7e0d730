"""Two texts beside each other, with what only one of them has marked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Final

from rlhf_cli.charts.words import safe

_WORD: Final = re.compile(r"\s*\S+|\s+\Z")


def marked(before: str, after: str) -> tuple[str, str]:
    """Both as HTML: words that `after` does not have are <del>, words that only it has are <ins>.

    Words are compared without the space before them, and in order: a word that moved is marked on both sides.
    """
    old, new = _WORD.findall(before), _WORD.findall(after)
    matcher = SequenceMatcher(None, _words(old), _words(new), autojunk=False)
    left, right = [], []
    for kind, a, b, c, d in matcher.get_opcodes():
        left.append(_wrap("".join(old[a:b]), "" if kind == "equal" else "del"))
        right.append(_wrap("".join(new[c:d]), "" if kind == "equal" else "ins"))
    return "".join(left), "".join(right)


def _words(pieces: Sequence[str]) -> list[str]:
    return [piece.strip() for piece in pieces]


def _wrap(text: str, tag: str) -> str:
    """The text in its mark; the space before it stays outside, where nothing is underlined."""
    inner = text.lstrip()
    space = text[: len(text) - len(inner)]
    return safe(space) + (f"<{tag}>{safe(inner)}</{tag}>" if tag and inner else safe(inner))
