"""The table of `rlhf fork`: the fork beside its parent on the held-out prompts."""

from pathlib import Path

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.display.figures import compared
from rlhf_cli.display.following import print_next
from rlhf_cli.display.words import flat
from rlhf_cli.paths import quoted
from rlhf_cli.report.comparison_page import compare_runs
from rlhf_cli.report.table import changes
from rlhf_cli.runs.reading import read_run


def show_effect(parent: Path, fork: Path) -> None:
    """Print the paired difference at the newest step that both evaluated, or why there is none; on stdout."""
    console = ResultConsole()
    difference = compare_runs(read_run(parent), read_run(fork))
    if isinstance(difference, str):
        console.print(flat(f"No comparison with the parent: {difference}."), soft_wrap=True)
    else:
        console.print(f"Against the parent after step {difference.step}: same held-out prompts, same random numbers")
        rows = changes(difference.comparison, f"J = reward - {difference.beta:g}·KL")
        caption = "±: 95 % interval over prompts; the difference is paired by prompt"
        console.print(compared(("parent", "fork", "difference"), rows, None, caption, leads=True))
    print_next(console, [f"rlhf report {quoted(parent)} {quoted(fork)}"])
