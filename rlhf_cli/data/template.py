"""Templates: texts with the names of columns in braces. Only plain names, so no template reaches an attribute."""

from functools import lru_cache
from string import Formatter


@lru_cache(maxsize=16)
def parse_template(template: str) -> tuple[tuple[str, str | None], ...]:
    """Split a template into pairs of literal text and the column after it (None at the end); {{ and }} are braces.

    Raises ValueError for attributes, indices, conversions and formats.
    """
    pairs = []
    for literal, name, form, conversion in Formatter().parse(template):
        if name is not None and (not name or form or conversion or set(name) & set(".[]{}")):
            raise ValueError(f"holds {{{name}}}: only the plain name of a column may stand in braces")
        pairs.append((literal, name))
    return tuple(pairs)


def check_template(template: str) -> str:
    """Return the template; raises ValueError where it is malformed or names no column."""
    if not column_names(template):
        raise ValueError("names no column: write for example {question}")
    return template


def column_names(template: str) -> list[str]:
    """The columns that a template names."""
    return [name for _, name in parse_template(template) if name is not None]
