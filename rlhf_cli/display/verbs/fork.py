"""The table of `rlhf fork`: the fork beside its parent on the held-out prompts."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.table import Table
from rich.text import Text

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.display.following import print_next
from rlhf_cli.display.words import flat
from rlhf_cli.paths import relative_to_here
from rlhf_cli.report.comparison_page import compare_runs
from rlhf_cli.report.table import changes
from rlhf_cli.runs.reading import read_run


def show_effect(parent: Path, fork: Path) -> None:
    """Print the paired difference at the newest step that both evaluated, or why there is none; on stdout."""
    console = ResultConsole()
    compared = compare_runs(read_run(parent), read_run(fork))
    if isinstance(compared, str):
        console.print(flat(f"No comparison with the parent: {compared}."), markup=False, soft_wrap=True)
    else:
        console.print(f"Against the parent after step {compared.step}: same held-out prompts, same random numbers")
        table = Table(
            caption=Text("±: 95 % interval over prompts; the difference is paired by prompt"),
            caption_justify="left",
        )
        for name in ("", "parent", "fork", "difference"):
            table.add_column(name, justify="left" if not name else "right")
        for place, row in enumerate(changes(compared.comparison, f"J = reward - {compared.beta:g}·KL")):
            table.add_row(*row, style="" if place else "bold")
        console.print(table)
    both = " ".join(shlex.quote(str(relative_to_here(run))) for run in (parent, fork))
    print_next(console, [f"rlhf report {both}"])
