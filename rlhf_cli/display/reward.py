"""A reward's examination as a table, with the completions that it likes most and least; on stdout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlhf_cli.display.words import flat
from rlhf_cli.rewards.examine import Examination, Group

STYLES: Final = {"ok": "green", "look": "yellow", "wrong": "red"}
EXTREMES: Final = 2


def show_examination(found: Examination, groups: Sequence[Group]) -> None:
    """What every check found, and the extremes."""
    console = Console(highlight=False)
    table = Table(
        title=f"{found.reward}: {found.completions} completions of {found.prompts} prompts",
        title_justify="left",
        expand=True,
    )
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", ratio=1)
    for finding in found.findings:
        table.add_row(Text(finding.verdict, style=STYLES[finding.verdict]), finding.check, Text(finding.said))
    table.show_header = False
    console.print(table)
    known = sorted(
        ((score, text) for group, scores in zip(groups, found.scores, strict=True)
         for score, text in zip(scores, group.texts, strict=True) if score is not None),
        key=lambda pair: pair[0],
    )  # fmt: skip
    if len(known) >= 2 * EXTREMES:
        extremes = Table(title="\nHighest and lowest", title_justify="left", expand=True, show_header=False)
        extremes.add_column("score", justify="right", no_wrap=True)
        extremes.add_column("completion", ratio=1)
        for score, text in (*reversed(known[-EXTREMES:]), *known[:EXTREMES]):
            extremes.add_row(f"{score:.4g}", Text(flat(text)))
        console.print(extremes)
