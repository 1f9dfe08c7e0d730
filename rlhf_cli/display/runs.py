"""The runs there are: a table by folder, how to continue those that stopped, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from rlhf_cli.checkpoint import step_of
from rlhf_cli.errors import visible
from rlhf_cli.pipeline.runs import Facts, shown

HEADER: Final = ("state", "step", "J", "reward", "KL", "saved")
STYLES: Final = {"running": "green", "finished": "", "stopped": "yellow", "broken": "red"}
LISTED: Final = 10
"""Commands that are written out."""


def show_runs(runs: Sequence[Facts]) -> None:
    """The table and what to type next; on stdout. Runs of one folder stand together, where its newest one would.

    Names come last: one that is too long for the terminal goes on in the next line, and disturbs no column.
    """
    console = Console(highlight=False)
    rows = {run.folder: _figures(run) for run in runs}
    widths = [max(map(len, column)) for column in zip(HEADER, *rows.values(), strict=True)]
    by_parent: dict[Path, list[Facts]] = {}
    for run in runs:
        by_parent.setdefault(run.folder.parent, []).append(run)
    console.print(_line(HEADER, widths, "run"), style="bold", soft_wrap=True)
    for parent, members in by_parent.items():
        console.print(Text(visible(f"{shown(parent)}/"), style="dim"), soft_wrap=True)
        for run in members:
            line = _line(rows[run.folder], widths, visible(run.folder.name))
            line.stylize(STYLES[run.state], 0, widths[0] + 2)
            console.print(line, soft_wrap=True)
    _explain(console, runs)


def _line(cells: Sequence[str], widths: Sequence[int], name: str) -> Text:
    first, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return Text("  " + "  ".join([first.strip().ljust(widths[0]), *others, name]))


def _figures(run: Facts) -> tuple[str, ...]:
    return (
        run.state,
        f"{_or_dash(run.step, 'd')}/{_or_dash(run.steps, 'd')}",
        _or_dash(run.objective, "+.3f"),
        _or_dash(run.reward, "+.3f"),
        _or_dash(run.kl, ".2f"),
        "none" if run.checkpoint is None else str(step_of(run.checkpoint)),
    )


def _or_dash(value: float | None, form: str) -> str:
    if value is None:
        return "-"
    return format(value, form) if abs(value) < 1e6 else f"{value:.1e}"


def _explain(console: Console, runs: Sequence[Facts]) -> None:
    """One line a command and a fault, whole however narrow the terminal, so that they can be copied."""
    commands = [run.going_on() for run in runs if run.state == "stopped"]
    if commands:
        console.print("\nContinue", style="bold")
        for command in commands[:LISTED]:
            console.print(f"  {visible(command)}", markup=False, soft_wrap=True)
        if commands[LISTED:]:
            console.print(f"  and {len(commands) - LISTED} more: rlhf runs --json names them", markup=False)
    if faults := [run for run in runs if run.reason]:
        console.print("\nNot as it should be", style="bold")
        for run in faults:
            console.print(f"  {visible(f'{shown(run.folder)}: {run.reason}')}", markup=False, soft_wrap=True)
