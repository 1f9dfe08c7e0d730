"""Print the answer of a sweep on stdout: its points, reward against KL, the recommended point, and the reason."""

from pathlib import Path

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.display.figures import titled
from rlhf_cli.display.following import after_sweep, print_next
from rlhf_cli.display.pictures import print_picture
from rlhf_cli.display.printing import print_json
from rlhf_cli.errors import visible
from rlhf_cli.evaluation.intervals import with_error
from rlhf_cli.paths import relative_to_here
from rlhf_cli.report.frontier import frontier
from rlhf_cli.report.sweep_page import intervals_over
from rlhf_cli.sweep.answer import Answer
from rlhf_cli.sweep.outcome import LeftOut
from rlhf_cli.sweep.record import name_of

WIDE = 100
"""Width of a terminal that has room for the column `length`."""


def show_answer(answer: Answer, display: str, report: Path | None) -> None:
    """Print the answer: one object for `json`, nothing for `quiet`. `report` is its page, if there is one."""
    if display == "quiet":
        return
    if display == "json":
        print_json(answer.row())
        return
    console = ResultConsole()
    console.print()
    if answer.points:
        console.print(_tabulate_points(answer, console.width))
        print_picture(frontier(answer.oracle, answer.points, answer.recommended), console)
        if answer.oracle is None:
            console.print(f"the optimum's curve is not known: {answer.no_oracle}", style="dim")
        console.print()
    _print_recommendation(answer, console)
    unseen = [missing for missing in answer.left_out if missing.state == "not evaluated"]
    if unseen:
        console.print(f"never evaluated: {len(unseen)} of the trials ({unseen[0].reason})", style="yellow")
    for missing in answer.left_out:
        if missing.state != "not evaluated":
            console.print(Text(_describe_missing(missing), style="yellow"), soft_wrap=True)
    if report is not None:
        console.print(Text.assemble(("Report ", "bold"), visible(str(relative_to_here(report)))), soft_wrap=True)
    if following := after_sweep(answer):
        print_next(console, following)


def _tabulate_points(answer: Answer, width: int) -> RenderableType:
    several = any(point.trials > 1 for point in answer.points)
    caption = (
        f"J = reward - {answer.beta:g}·KL; {intervals_over(answer)}\n"
        "→ recommended   * Pareto front: none has at least the reward at no more KL"
    )
    table = titled("Held-out, at the end of training, at T = 1", caption)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("point", overflow="fold")
    if several:
        table.add_column("runs", justify="right", no_wrap=True)
    for name in ("reward", "KL, nats", "J"):
        table.add_column(name, justify="right", no_wrap=True)
    if width >= WIDE:
        table.add_column("length", justify="right", no_wrap=True)
    for point in answer.points:
        arrow = "→ " if point.number == answer.recommended else ""
        cells = (
            f"{arrow}{point.number}{'*' if point.pareto else ' '}",
            Text(visible(point.name.replace(",", ", "))),
            *((f"{len(point.finished)}/{point.trials}",) if several else ()),
            with_error(point.reward, 3),
            with_error(point.kl, 2),
            with_error(point.objective, 3),
            *((with_error(point.length, 1),) if width >= WIDE else ()),
        )
        table.add_row(*cells, style="bold" if arrow else "")
    return table


def _print_recommendation(answer: Answer, console: Console) -> None:
    chosen = answer.point(answer.recommended)
    if chosen is not None:
        console.print(Text(visible(f"Recommended: {chosen.title}"), style="bold"), soft_wrap=True)
    for sentence in answer.reason:
        console.print(Padding(Text(visible(sentence)), (0, 0, 0, 2)))
    for warning in answer.warnings:
        console.print(Padding(Text(visible(f"warning: {warning}"), style="yellow"), (0, 0, 0, 2)))
    if chosen is not None:
        folders = " ".join(str(relative_to_here(Path(answer.folder) / trial.name)) for trial in chosen.finished)
        label = "Its run " if len(chosen.finished) == 1 else "Its runs "
        console.print(Text.assemble((label, "bold"), visible(folders)), soft_wrap=True)


def _describe_missing(missing: LeftOut) -> str:
    log = f"; its log: {relative_to_here(missing.log)}" if missing.log else ""
    return visible(" ".join(f"left out: {name_of(missing.trial.told)}: {missing.state}: {missing.reason}{log}".split()))
