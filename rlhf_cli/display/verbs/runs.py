"""Print the table of runs, the commands that continue stopped runs, and the faults of broken ones."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.errors import visible
from rlhf_cli.paths import relative_to_here
from rlhf_cli.plural import plural
from rlhf_cli.runs.checkpoint import step_of
from rlhf_cli.runs.folder import TRIAL_LOG
from rlhf_cli.runs.listing import RunStatus
from rlhf_cli.sweep.record import Ending, SweepRecord

HEADER: Final = ("state", "step", "J", "reward", "KL", "saved")
STYLES: Final = {"running": "green", "finished": "", "stopped": "yellow", "broken": "red", "failed": "red"}
LISTED: Final = 10
"""The most commands that are printed."""


def show_runs(runs: Sequence[RunStatus], sweeps: Mapping[Path, SweepRecord]) -> None:
    """Print the table and the next commands on stdout. `sweeps` are the sweeps by folder.

    Runs of one folder stand together, in the place of the newest of them. Names come last, so that a long name shifts
    no column.
    """
    console = ResultConsole()
    failed = {run.folder: why for run in runs if run.folder.parent in sweeps and (why := why_failed(run))}
    rows = {run.folder: _figures(run, "failed" if run.folder in failed else run.state) for run in runs}
    widths = [max(map(len, column)) for column in zip(HEADER, *rows.values(), strict=True)]
    by_parent: dict[Path, list[RunStatus]] = {}
    for run in runs:
        by_parent.setdefault(run.folder.parent, []).append(run)
    common = set.intersection(*(set(run.overrides) for run in runs)) if len(runs) > 1 else set()
    console.print(_line(HEADER, widths, "run"), style="bold", soft_wrap=True)
    for parent, members in by_parent.items():
        title = visible(f"{relative_to_here(parent)}/")
        if parent in sweeps:
            sweep = sweeps[parent]
            title += f"  a sweep, {_finished(sweep, members)} of {plural(len(sweep.trials), 'trial')} finished"
        console.print(Text(title, style="dim"), soft_wrap=True)
        for run in members:
            line = _line(rows[run.folder], widths, visible(run.folder.name))
            line.stylize(STYLES[rows[run.folder][0]], 0, widths[0] + 2)
            console.print(line, soft_wrap=True)
            if about := _about(run, common):
                console.print_fact("", visible(about), 4, "dim")
    _explain(console, runs, sweeps, failed)


def _finished(sweep: SweepRecord, runs: Sequence[RunStatus]) -> int:
    """The number of the sweep's trials that have all their steps."""
    done = {run.folder: run.steps or 0 for run in runs if run.state == "finished"}
    return sum(done.get(sweep.path(trial), -1) >= trial.steps for trial in sweep.trials)


def why_failed(trial: RunStatus) -> str | None:
    """The reason for which the last try of a trial failed; None where it did not."""
    ending = Ending.read(trial.folder)
    return ending.said if ending and ending.is_failure and trial.state not in ("running", "finished") else None


def _line(cells: Sequence[str], widths: Sequence[int], name: str) -> Text:
    first, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return Text("  " + "  ".join([first.strip().ljust(widths[0]), *others, name]))


def _figures(run: RunStatus, state: str) -> tuple[str, ...]:
    return (
        state,
        f"{_or_dash(run.step, 'd')}/{_or_dash(run.steps, 'd')}",
        _or_dash(run.objective, "+z.3f"),
        _or_dash(run.reward, "+z.3f"),
        _or_dash(run.kl, "z.2f"),
        "none" if run.checkpoint is None else str(step_of(run.checkpoint)),
    )


def _about(run: RunStatus, common: Collection[str]) -> str:
    """Describe a run: model, algorithm and reward, the overrides that not all runs have, the last held-out figures."""
    own = " ".join(override.replace("\n", "\\n") for override in run.overrides if override not in common)
    parts = [" · ".join(run.made_of), own]
    if (last := run.held_out) is not None:
        parts.append(f"held-out at step {last['step']}: {_held_out(last)}")
    return "  ".join(filter(None, parts))


def _held_out(figures: Mapping[str, float]) -> str:
    if "objective" in figures:
        return f"J {figures['objective']:+z.3f}, reward {figures['reward']:+z.3f}, KL {figures['kl']:z.2f}"
    accuracy = f", accuracy {figures['accuracy']:.1%}" if "accuracy" in figures else ""
    return f"loss {figures['loss']:.3f}{accuracy}"


def _or_dash(value: float | None, form: str) -> str:
    if value is None:
        return "-"
    return format(value, form) if abs(value) < 1e6 else f"{value:.1e}"


def _explain(
    console: Console, runs: Sequence[RunStatus], sweeps: Mapping[Path, SweepRecord], failed: Mapping[Path, str]
) -> None:
    """Print commands and faults, each in one unbroken line that can be copied.

    One command continues all trials of a sweep.
    """
    trials = {sweep.path(trial) for sweep in sweeps.values() for trial in sweep.trials}
    at_work = {run.folder.parent for run in runs if run.state == "running"}
    commands = [
        sweep.again()
        for folder, sweep in sweeps.items()
        if folder not in at_work and _finished(sweep, runs) < len(sweep.trials)
    ]
    stopped = [run for run in runs if run.state == "stopped" and run.folder not in trials]
    commands += [command for run in stopped if (command := run.continue_command())]
    if commands:
        console.print("\nContinue", style="bold")
        for command in commands[:LISTED]:
            console.print(f"  {visible(command)}", soft_wrap=True)
        if commands[LISTED:]:
            console.print(f"  and {len(commands) - LISTED} more: rlhf runs --json names them")
    faults = [
        f"{relative_to_here(run.folder)}: {run.reason}" for run in runs if run.reason and run.folder not in failed
    ]
    faults += [f"{relative_to_here(folder / TRIAL_LOG)}: {why}" for folder, why in failed.items()]
    if faults:
        console.print("\nNot as it should be", style="bold")
        for fault in faults:
            console.print(f"  {visible(fault)}", soft_wrap=True)
