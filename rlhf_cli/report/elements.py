"""What the pages of runs are made of beside text and pictures, as HTML with every text in it made safe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rlhf_cli.charts.pictures import Picture
from rlhf_cli.charts.svg import svg
from rlhf_cli.charts.words import safe

LONGEST: Final = 2000
"""Characters of a text that are shown."""
FEW: Final = 4
"""Columns of a table that a phone has room for, each figure in two lines."""

STYLE: Final = """
:root { --line: #d3d3ce; --gone: #a3340b; --gone-paper: #fbe5da; --come: #00588a; --come-paper: #dcedf8 }
@media (prefers-color-scheme: dark) {
  :root { --line: #3b3e45; --gone: #ffab80; --gone-paper: #43261a; --come: #8fd0ff; --come-paper: #17324a }
}
body { max-width: 76rem; padding-top: 0.5rem }
h1 { overflow-wrap: anywhere }
section > p, dl { max-width: 48rem }
section > p { overflow-wrap: anywhere }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1rem;
  align-items: start }
.grid svg { margin: 0 }
.wide { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: 0.35rem 0.9rem 0.35rem 0; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--line) }
th:first-child { text-align: left; font-weight: 400; white-space: normal; min-width: 5.5rem }
thead th, thead th:first-child { font-weight: 600 }
.strong th:first-child, .strong td { font-weight: 600 }
.words td, .words thead th { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 6rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.25rem 1.2rem; margin: 1rem 0 }
dt { color: var(--soft) }
dd { margin: 0; overflow-wrap: anywhere }
.pair { margin: 1.5rem 0 }
.pair > p { margin: 0 0 0.5rem; font-weight: 600; white-space: pre-wrap; overflow-wrap: anywhere; max-width: 60rem }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: 1rem }
.side { border: 1px solid var(--line); border-radius: 6px; padding: 0.5rem 0.8rem }
.side h3 { margin: 0 0 0.3rem; font-size: 0.85rem; font-weight: 400; color: var(--soft) }
.side p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere }
del { color: var(--gone); background: var(--gone-paper); text-decoration: line-through; border-radius: 3px }
ins { color: var(--come); background: var(--come-paper); text-decoration: underline; border-radius: 3px }
pre { font: 0.85rem/1.5 ui-monospace, monospace; padding: 0.7rem 0.9rem; border-radius: 6px; background: var(--code);
  white-space: pre-wrap; overflow-wrap: anywhere; max-width: 60rem }
summary { cursor: pointer }
@media (max-width: 32rem) {
  th, td { padding-right: 0.6rem; font-size: 0.85rem }
  .few td { white-space: normal }
  dl { grid-template-columns: 1fr; gap: 0 } dd { margin-bottom: 0.5rem }
}
"""


def grid(pictures: Sequence[Picture]) -> str:
    """Pictures beside one another, as many as there is room for."""
    return "\n".join(['<div class="grid">', *map(svg, pictures), "</div>"])


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, strong: str = "", words: bool = False) -> str:
    """A table whose first column names the rows; `strong` is the row that stands out, `words`: cells are texts."""
    head = "".join(f'<th scope="col">{safe(name)}</th>' for name in header)
    lines = [
        f'<div class="wide"><table{_class("words" if words else "few" if len(header) <= FEW else "")}>',
        f"<thead><tr>{head}</tr></thead>",
        "<tbody>",
    ]
    for first, *others in rows:
        cells = "".join(f"<td>{safe(cell)}</td>" for cell in others)
        lines.append(f'<tr{_class("strong" if first == strong else "")}><th scope="row">{safe(first)}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody>", "</table></div>"])


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Names and what they are; what is empty is left out."""
    return "\n".join(["<dl>", *(f"<dt>{safe(name)}</dt><dd>{safe(what)}</dd>" for name, what in rows if what), "</dl>"])


def sides(prompt: str, columns: Sequence[tuple[str, str]]) -> str:
    """A prompt and texts beside one another, each with a name and as HTML."""
    boxes = (
        f'<div class="side"><h3>{safe(name)}</h3><p dir="auto">{text or "<em>(empty)</em>"}</p></div>'
        for name, text in columns
    )
    return "\n".join(
        [f'<div class="pair"><p dir="auto">{safe(cut(prompt))}</p>', '<div class="sides">', *boxes, "</div></div>"]
    )


def listing(values: Mapping[str, Any]) -> str:
    """Nested settings, a line each, indented."""
    return f"<pre>{safe(chr(10).join(_lines(values, '')))}</pre>"


def command(line: str) -> str:
    """Something to type."""
    return f"<pre>{safe(line)}</pre>"


def folded(name: str, body: str) -> str:
    """What opens at a click."""
    return f"<details><summary>{safe(name)}</summary>\n{body}\n</details>"


def cut(text: str) -> str:
    """The text, or as much of it as is shown."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text) - LONGEST} more characters)"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _lines(values: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{key}: {cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))}"
