"""Print the result of a run on stdout: the last table, the texts, the files, and the next commands."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.display.following import PROMPT, after_run, print_next
from rlhf_cli.display.words import flat
from rlhf_cli.errors import visible
from rlhf_cli.evaluation.optimum import progress_to_optimum
from rlhf_cli.models.location import REWARD_MODEL
from rlhf_cli.paths import PACKAGE, relative_to_here
from rlhf_cli.plural import plural
from rlhf_cli.report.run_page import name_of_start
from rlhf_cli.report.table import changes
from rlhf_cli.runs.folder import ADAPTER, CHECKPOINTS, CONFIG, METRICS, REPORT, SAMPLES, TENSORBOARD
from rlhf_cli.runs.json_files import read_object
from rlhf_cli.runs.kind import SUPERVISED
from rlhf_cli.runs.no_signal import read_no_signal
from rlhf_cli.runs.result import Result
from rlhf_cli.supervised.objectives.objective import Interval
from rlhf_cli.supervised.result import SupervisedResult

FORMS: Final = {"loss": ".3f", "accuracy": ".1%", "margin": "+.3f"}
EVEN: Final = 1e-9
"""The ends of a symmetrical interval are as far from its middle, up to rounding."""


def show_result(result: Result, folder: Path, *, following: bool = True) -> None:
    """Print the result, the files of the run in `folder`, and with `following` the next commands."""
    console = ResultConsole()
    console.print()
    no_signal = _no_signal(result, folder)
    if result.comparison is not None:
        console.print(_comparison_table(result, no_signal, name_of_start(read_object(folder / CONFIG))))
    elif no_signal:
        console.print(no_signal, style="yellow", markup=False)
    if result.stopped is not None:
        console.print(visible(f"Ended after step {result.step} by {result.stopped.key}: {result.stopped.reason}"))
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
    if following:
        print_next(console, after_run(result, folder))


def _no_signal(result: Result, folder: Path) -> str | None:
    samples = read_object(folder / CONFIG).get("samples_per_prompt")
    steps = read_no_signal(folder, samples).steps if isinstance(samples, int) else 0
    what = "learned nothing from the reward: no completion scored above another of its prompt"
    return f"{steps} of {result.step} steps {what}" if steps else None


def _comparison_table(result: Result, no_signal: str | None, start: str) -> RenderableType:
    assert result.comparison is not None
    assert result.optimum is not None
    comparison = result.comparison
    table = Table(
        title=f"Held-out, after {plural(result.step, 'step')}: {plural(result.prompts, 'prompt')} x "
        f"{plural(result.samples, 'sample')} at T = 1",
        title_justify="left",
        caption=Text(
            f"±: 95 % interval over prompts; the change is paired by prompt\n{progress_to_optimum(result.optimum)}"
            + (f"\n{no_signal}" if no_signal else "")
        ),
        caption_justify="left",
    )
    for name in ("", start, "policy", "change"):
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


def show_losses(result: SupervisedResult, folder: Path, *, following: bool = True) -> None:
    """Print the result of supervised training and the files of the run in `folder`.

    With `following`, also the next commands.
    """
    console = ResultConsole()
    console.print()
    if result.before:
        console.print(_losses_table(result))
    console.print(Text.assemble(("Written to ", "bold"), visible(str(relative_to_here(folder)))), soft_wrap=True)
    rows = Table.grid(padding=(0, 2))
    for name, what in (
        (REPORT, "all of it as a page, for a browser"),
        (f"{REWARD_MODEL}/", "the reward model, a plain transformers folder"),
        (f"{ADAPTER}/", "the adapter, a plain PEFT folder"),
        (METRICS, "a line a step"),
        (f"{CHECKPOINTS}/", "to continue from"),
    ):
        if (folder / name).exists():
            rows.add_row("", name, what)
    console.print(rows, soft_wrap=True)
    if following:
        print_next(console, _after_losses(result, folder))


def _losses_table(result: SupervisedResult) -> Table:
    is_last = result.exported == result.step
    exported = f"after {plural(result.exported, 'step')}" if is_last else f"step {result.exported}"
    table = Table(
        title=f"Held-out, {exported}: {plural(result.held_out, 'row')}",
        title_justify="left",
        caption=Text("± and [ ]: 95 % interval over rows; changes are paired"),
        caption_justify="left",
    )
    for name in ("", "before", "after", "change"):
        table.add_column(name, justify="left" if not name else "right")
    for name, before in result.before.items():
        after, change = result.after.get(name), result.change.get(name)
        form = FORMS[name]
        cells = _shown(before, form), _shown(after, form), _shown(change, f"+{form.removeprefix('+')}")
        table.add_row(name, *cells, style="bold" if name == "loss" else "")
    return table


def _shown(figure: Interval | None, form: str) -> str:
    if figure is None:
        return "-"
    below, above = figure.mean - figure.low, figure.high - figure.mean
    if abs(below - above) < EVEN:
        return f"{figure.mean:{form}} ± {above:{form.removeprefix('+')}}"
    return f"{figure.mean:{form}} [{figure.low:{form}}, {figure.high:{form}}]"


def _after_losses(result: SupervisedResult, folder: Path) -> list[str]:
    place = shlex.quote(str(relative_to_here(folder)))
    further = f"rlhf {SUPERVISED[result.task]} resume={place} steps={2 * result.step}"
    if result.task == "bradley_terry":
        return [
            f"rlhf reward test reward=model reward.path={place}",
            f"rlhf train reward=model reward.path={place}",
            further,
        ]
    model, on = read_object(folder / CONFIG).get("model"), list[str]()
    if isinstance(model, dict) and (path := model.get("path")):  # a tiny model takes no adapter
        is_own = str(path).startswith(PACKAGE)
        chosen = "" if is_own else f"model=pretrained model.path={shlex.quote(str(path))} "
        on = [f"rlhf train {chosen}model.adapter={place}"]
    return [f"rlhf generate {place} --reference {shlex.quote(PROMPT)}", *on, further]
