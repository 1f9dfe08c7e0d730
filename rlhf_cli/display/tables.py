"""Print the result of a run on stdout: the last table, the texts, the files, and the next commands."""

from pathlib import Path
from typing import Final

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.display.figures import compared
from rlhf_cli.display.following import after_losses, after_run, print_next
from rlhf_cli.display.words import flat
from rlhf_cli.errors import visible
from rlhf_cli.evaluation.optimum import progress_to_optimum
from rlhf_cli.models.location import REWARD_MODEL
from rlhf_cli.paths import relative_to_here
from rlhf_cli.plural import plural
from rlhf_cli.report.run_page import name_of_start
from rlhf_cli.report.supervised_page import rows_of
from rlhf_cli.report.table import changes
from rlhf_cli.runs.folder import ADAPTER, CHECKPOINTS, CONFIG, METRICS, REPORT, SAMPLES, TENSORBOARD
from rlhf_cli.runs.json_files import read_object
from rlhf_cli.runs.no_signal import read_no_signal
from rlhf_cli.runs.result import Result
from rlhf_cli.supervised.result import SupervisedResult

FILES: Final = {
    REPORT: "all of it as a page, for a browser",
    f"{REWARD_MODEL}/": "the reward model, a plain transformers folder",
    f"{ADAPTER}/": "the adapter, a plain PEFT folder",
    METRICS: "a line a step",
    SAMPLES: "completions",
    f"{TENSORBOARD}/": "curves, for TensorBoard",
    f"{CHECKPOINTS}/": "to continue from",
}
"""The files that people look for in a run's folder."""


def show_result(result: Result, folder: Path, *, following: bool = True) -> None:
    """Print the result, the files of the run in `folder`, and with `following` the next commands."""
    console = ResultConsole()
    console.print()
    no_signal = _no_signal(result, folder)
    if result.comparison is not None and result.optimum is not None:
        asked = f"{plural(result.prompts, 'prompt')} x {plural(result.samples, 'sample')} at T = 1"
        title = f"Held-out, after {plural(result.step, 'step')}: {asked}"
        paired = "±: 95 % interval over prompts; the change is paired by prompt"
        caption = "\n".join(filter(None, [paired, progress_to_optimum(result.optimum), no_signal]))
        names = name_of_start(read_object(folder / CONFIG)), "policy", "change"
        rows = changes(result.comparison, f"J = reward - {result.beta:g}·KL")
        console.print(compared(names, rows, title, caption, leads=True))
    elif no_signal:
        console.print(no_signal, style="yellow")
    if result.stopped is not None:
        console.print(visible(f"Ended after step {result.step} by {result.stopped.key}: {result.stopped.reason}"))
    console.print(_texts_table(result))
    _print_files(folder, console)
    if following:
        print_next(console, after_run(result, folder))


def _no_signal(result: Result, folder: Path) -> str | None:
    samples = read_object(folder / CONFIG).get("samples_per_prompt")
    steps = read_no_signal(folder, samples).steps if isinstance(samples, int) else 0
    what = "learned nothing from the reward: no completion scored above another of its prompt"
    return f"{steps} of {plural(result.step, 'step')} {what}" if steps else None


def _texts_table(result: Result) -> RenderableType:
    table = Table(title="Greedy completions", title_justify="left", show_lines=True, expand=True)
    for name in ("prompt", "reference", "policy"):
        table.add_column(name, ratio=1, style="dim" if name == "prompt" else "")
    for row in result.texts:
        table.add_row(*(Text(flat(text)) for text in (row.prompt, row.reference, row.policy)))
    return table


def _print_files(folder: Path, console: Console) -> None:
    """Print where the run is, and which of its files there are."""
    console.print(Text.assemble(("Written to ", "bold"), visible(str(relative_to_here(folder)))), soft_wrap=True)
    rows = Table.grid(padding=(0, 2))
    for name, what in FILES.items():
        path = folder / name
        if path.is_dir() or (path.is_file() and path.stat().st_size):  # an earlier version's may be empty
            rows.add_row("", name, what)
    console.print(rows, soft_wrap=True)


def show_losses(result: SupervisedResult, folder: Path, *, following: bool = True) -> None:
    """Print the result of supervised training and the files of the run in `folder`.

    With `following`, also the next commands.
    """
    console = ResultConsole()
    console.print()
    if result.before:
        console.print(_losses_table(result))
    _print_files(folder, console)
    if following:
        print_next(console, after_losses(result, folder))


def _losses_table(result: SupervisedResult) -> Table:
    is_last = result.exported == result.step
    exported = f"after {plural(result.exported, 'step')}" if is_last else f"step {result.exported}"
    caption = "± and [ ]: 95 % interval over rows; changes are paired"
    title = f"Held-out, {exported}: {plural(result.held_out, 'row')}"
    return compared(("before", "after", "change"), rows_of(result), title, caption, leads=True)
