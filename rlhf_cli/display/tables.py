"""Print the result of a run on stdout: the last table, the texts, the files, and the next commands."""

from __future__ import annotations

from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.display.following import after_run, print_next
from rlhf_cli.display.words import flat
from rlhf_cli.errors import visible
from rlhf_cli.evaluation.optimum import progress_to_optimum
from rlhf_cli.paths import relative_to_here
from rlhf_cli.report.table import changes
from rlhf_cli.runs.folder import ADAPTER, CHECKPOINTS, CONFIG, METRICS, REPORT, SAMPLES, TENSORBOARD
from rlhf_cli.runs.json_files import read_object
from rlhf_cli.runs.no_signal import read_no_signal
from rlhf_cli.runs.result import Result


def show_result(result: Result, folder: Path) -> None:
    """Print the result, the files of the run in `folder`, and the next commands."""
    console = ResultConsole()
    console.print()
    no_signal = _no_signal(result, folder)
    if result.comparison is not None:
        console.print(_comparison_table(result, no_signal))
    elif no_signal:
        console.print(no_signal, style="yellow", markup=False)
    console.print(_texts_table(result))
    console.print(Text.assemble(("Written to ", "bold"), visible(str(relative_to_here(folder)))), soft_wrap=True)
    rows = Table.grid(padding=(0, 2))
    for name, what in (
        (REPORT, "all of it as a page, for a browser"),
        (f"{ADAPTER}/", "the adapter, a plain PEFT folder"),
        (METRICS, f"a line a step; curves in {TENSORBOARD}/, completions in {SAMPLES}"),
        (f"{CHECKPOINTS}/", "to continue from"),
    ):
        if name != REPORT or (folder / REPORT).is_file():
            rows.add_row("", name, what)
    console.print(rows, soft_wrap=True)
    print_next(console, after_run(result, folder))


def _no_signal(result: Result, folder: Path) -> str | None:
    samples = read_object(folder / CONFIG).get("samples_per_prompt")
    steps = read_no_signal(folder, samples).steps if isinstance(samples, int) else 0
    what = "learned nothing from the reward: no completion scored above another of its prompt"
    return f"{steps} of {result.step} steps {what}" if steps else None


def _comparison_table(result: Result, no_signal: str | None) -> RenderableType:
    assert result.comparison is not None
    assert result.optimum is not None
    comparison = result.comparison
    table = Table(
        title=f"Held-out, after {result.step} steps: {result.prompts} prompts x {result.samples} samples at T = 1",
        title_justify="left",
        caption=Text(
            f"±: 95 % interval over prompts; the change is paired by prompt\n{progress_to_optimum(result.optimum)}"
            + (f"\n{no_signal}" if no_signal else "")
        ),
        caption_justify="left",
    )
    for name in ("", "reference", "policy", "change"):
        table.add_column(name, justify="left" if not name else "right")
    for place, row in enumerate(changes(comparison, f"J = reward - {result.beta:g}·KL")):
        table.add_row(*row, style="" if place else "bold")
    return table


def _texts_table(result: Result) -> RenderableType:
    table = Table(title="Greedy completions", title_justify="left", show_lines=True, expand=True)
    for name in ("prompt", "reference", "policy"):
        table.add_column(name, ratio=1, style="dim" if name == "prompt" else "")
    for row in result.texts:
        table.add_row(*(Text(flat(text)) for text in (row.prompt, row.reference, row.policy)))
    return table
