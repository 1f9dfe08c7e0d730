"""A table for a page, as HTML; like a chart it carries its own style. It scrolls by itself where it is too wide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from rlhf_cli.charts.words import safe

STYLE: Final = """
.table { overflow-x: auto; margin: 1rem 0 }
.table table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums }
.table th, .table td { padding: 0.3rem 0.6rem 0.3rem 0; text-align: left; vertical-align: top; white-space: nowrap }
.table th { font-weight: 600; border-bottom: 1px solid currentColor }
.table td { border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent) }
.table .number { text-align: right }
.table .long { white-space: normal; overflow-wrap: break-word; min-width: 6rem; max-width: 24rem }
.table .strong { font-weight: 600 }
.table a { color: inherit }
"""


@dataclass(frozen=True, slots=True)
class Link:
    """A text that leads to a file beside the page."""

    text: str
    path: str
    """Relative to the page, as the file system has it."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below a head; plain text, made safe here."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | Link]]
    numbers: frozenset[int] = frozenset()
    """Columns that stand to the right."""
    long: frozenset[int] = frozenset()
    """Columns whose text is broken into lines."""
    strong: frozenset[int] = frozenset()
    """Rows that stand out."""


def html(table: Table) -> str:
    """The table as one element. Raises ValueError where a row has not one cell a column."""
    head = "".join(_cell("th", _kind(table, i), name) for i, name in enumerate(table.head))
    rows = []
    for r, row in enumerate(table.rows):
        strong = ' class="strong"' if r in table.strong else ""
        cells = (_cell("td", _kind(table, i), cell) for i, (cell, _) in enumerate(zip(row, table.head, strict=True)))
        rows.append(f"<tr{strong}>{''.join(cells)}</tr>")
    body = "\n".join(rows)
    return f'<div class="table"><style>{STYLE}</style><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def _kind(table: Table, column: int) -> str:
    return "number" if column in table.numbers else "long" if column in table.long else ""


def _cell(tag: str, kind: str, content: str | Link) -> str:
    if isinstance(content, Link):
        inner = f'<a href="{_address(content.path)}">{safe(content.text)}</a>'
    else:
        inner = safe(content)
    named = f' class="{kind}"' if kind else ""
    return f"<{tag}{named}>{inner}</{tag}>"


def _address(path: str) -> str:
    """`./` in front, so that no name is taken for another kind of address."""
    return safe("./" + quote(path))
