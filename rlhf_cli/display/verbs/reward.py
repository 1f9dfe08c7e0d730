"""Print the examination of a reward on stdout: its findings, and the completions with the extreme scores."""

from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.display.words import flat
from rlhf_cli.errors import visible
from rlhf_cli.plural import plural
from rlhf_cli.rewards.examine import Examination, Group

STYLES: Final = {"ok": "green", "look": "yellow", "wrong": "red"}
EXTREMES: Final = 2
"""The number of completions that are printed from either end of the scores."""


def show_examination(examination: Examination, groups: Sequence[Group]) -> None:
    """Print a row for each finding; then the extremes, where there are enough scores."""
    console = ResultConsole()
    completions, prompts = plural(examination.completions, "completion"), plural(examination.prompts, "prompt")
    title = f"{examination.reward}: {completions} of {prompts}"
    table = Table(title=Text(visible(title)), title_justify="left", expand=True, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for finding in examination.findings:
        table.add_row(Text(finding.verdict, style=STYLES[finding.verdict]), finding.check, Text(flat(finding.said)))
    console.print(table)
    scored = [
        (score, text)
        for group, scores in zip(groups, examination.scores, strict=True)
        for text, score in zip(group.texts, scores, strict=True)
        if score is not None
    ]
    scored.sort(key=lambda pair: pair[0])
    if len(scored) >= 2 * EXTREMES:
        extremes = Table(title="\nHighest and lowest", title_justify="left", expand=True, show_header=False)
        extremes.add_column(justify="right", no_wrap=True)
        extremes.add_column(ratio=1)
        for score, text in (*reversed(scored[-EXTREMES:]), *scored[:EXTREMES]):
            extremes.add_row(f"{score:.4g}", Text(flat(text)))
        console.print(extremes)
