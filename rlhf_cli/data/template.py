"""A text with the names of columns in braces. Names are all there is: a stranger's text can reach nothing by it."""

from __future__ import annotations

from functools import lru_cache
from string import Formatter


@lru_cache(maxsize=16)
def pieces(template: str) -> tuple[tuple[str, str | None], ...]:
    """Literal text, each followed by the column that stands behind it, or by None; {{ and }} are braces.

    Raises ValueError for anything but plain names: attributes, indices, conversions, formats.
    """
    found = []
    for literal, name, form, conversion in Formatter().parse(template):
        if name is not None and (not name or form or conversion or set(name) & set(".[]{}")):
            raise ValueError(f"holds {{{name}}}: only the plain name of a column may stand in braces")
        found.append((literal, name))
    return tuple(found)


def checked(template: str) -> str:
    """The template, if it is one; raises ValueError."""
    if not column_names(template):
        raise ValueError("names no column: write for example {question}")
    return template


def column_names(template: str) -> list[str]:
    """The columns that it names."""
    return [name for _, name in pieces(template) if name is not None]
