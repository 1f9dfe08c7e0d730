"""One self-contained HTML page: sections of text, formula and picture. It loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rlhf_cli.charts.words import safe

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #f6f6f4; --soft: #5c5f66; --code: #e9e9e5 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #0e0f12; --soft: #9a9ea8; --code: #22252b }
}
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 46rem; font: 1rem/1.55 system-ui, sans-serif;
  color: var(--ink); background: var(--paper) }
h1 { font-size: 1.7rem; line-height: 1.25 }
h2 { font-size: 1.25rem; line-height: 1.3; margin-top: 3rem }
section svg { display: block; width: 100%; height: auto; margin: 1rem 0 }
code { font: 0.95rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere }
.formula { padding: 0.6rem 0.8rem; border-radius: 6px; background: var(--code); white-space: pre;
  overflow-x: auto }
@media (max-width: 32rem) { .formula code { font-size: 0.75rem } }
.finding { margin: 0.6rem 0; padding-left: 0.8rem; border-left: 3px solid var(--soft) }
.source, .source code { color: var(--soft); font-size: 0.85rem }
"""

GENERATOR: Final = '<meta name="generator" content="rlhf-cli"/>'
"""Tells our pages from a file that must not be overwritten."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it; what is empty is left out."""

    heading: str
    paragraphs: Sequence[str] = ()
    """Plain text."""
    formula: str = ""
    """Plain text, one line a formula."""
    source: str = ""
    """The file in which it is written down."""
    svg: str = ""
    """As `chart.svg` made it, one or several: goes into the page as it is."""
    findings: Sequence[str] = ()
    """Plain text, below the picture: what it shows."""
    body: str = ""
    """HTML, below the pictures: goes into the page as it is, so every text in it is `safe`."""


def page(title: str, sections: Sequence[Section], style: str = "") -> str:
    """The whole page as HTML, UTF-8, light or dark as the reader's machine is; `style` adds to that of all pages."""
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8"/>',
            '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
            GENERATOR,
            f"<title>{safe(title)}</title>",
            f"<style>{STYLE}{style}</style>",
            "</head>",
            "<body>",
            f"<h1>{safe(title)}</h1>",
            *map(_section, sections),
            "</body>",
            "</html>",
            "",
        )
    )


def _section(section: Section) -> str:
    parts = [f"<h2>{safe(section.heading)}</h2>"]
    parts += [f"<p>{safe(paragraph)}</p>" for paragraph in section.paragraphs]
    if section.formula:
        parts.append(f'<p class="formula"><code>{safe(section.formula)}</code></p>')
    if section.svg:
        parts.append(section.svg)
    if section.body:
        parts.append(section.body)
    parts += [f'<p class="finding">{safe(finding)}</p>' for finding in section.findings]
    if section.source:
        parts.append(f'<p class="source">Source: <code>{safe(section.source)}</code></p>')
    return "\n".join(["<section>", *parts, "</section>"])
