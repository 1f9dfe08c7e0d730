"""The page of several runs of supervised training: held-out figures, paired differences, curves, settings."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from pydantic import TypeAdapter, ValidationError

from rlhf_cli.charts.pictures import Chart
from rlhf_cli.report.comparison_page import Difference, differing_settings, short_names
from rlhf_cli.report.curves import SUPERVISED, overlay
from rlhf_cli.report.page import render
from rlhf_cli.report.run_page import mapping_in
from rlhf_cli.report.series import steps_per_point
from rlhf_cli.report.supervised_page import shown
from rlhf_cli.report.table import Table
from rlhf_cli.runs.reading import SavedRun
from rlhf_cli.supervised.evaluation import Evaluation, read_evaluations
from rlhf_cli.supervised.objectives import Objective
from rlhf_cli.supervised.result import SupervisedResult, changes

_OBJECTIVE: Final = TypeAdapter[Objective](Objective)


def html(runs: Sequence[SavedRun]) -> str:
    """The whole page. The first run is the base: every other run is compared with it."""
    names, results = short_names(runs), [SupervisedResult.read(run.status.folder) for run in runs]
    each = list(zip(names, runs, results, strict=True))
    return render(
        "losses.html.j2",
        title=f"{len(runs)} runs beside one another",
        levels=_levels(runs, names, results),
        base=names[0],
        differences=[_difference(each[0], other) for other in each[1:]],
        curves=list(_curves(runs, names)),
        steps_a_point=steps_per_point(max(len(run.metrics) for run in runs)),
        settings=differing_settings(runs, names),
    )


def _curves(runs: Sequence[SavedRun], names: Sequence[str]) -> Iterator[Chart]:
    """The charts of the runs of each verb: losses of different objectives do not compare."""
    verbs = list(dict.fromkeys(run.status.verb for run in runs))
    for verb in verbs:
        own = [run.metrics if run.status.verb == verb else () for run in runs]
        for chart in overlay([(name, rows, 0) for name, rows in zip(names, own, strict=True)], SUPERVISED):
            yield replace(chart, title=f"{chart.title}, rlhf {verb}") if len(verbs) > 1 else chart


def _levels(runs: Sequence[SavedRun], names: Sequence[str], results: Sequence[SupervisedResult | None]) -> Table:
    """Each run's figures after the step that it exported."""
    figures = list(dict.fromkeys(name for result in results if result for name in result.after))
    rows = []
    for name, run, result in zip(names, runs, results, strict=True):
        after = [shown(figure, result.after.get(figure) if result else None) for figure in figures]
        exported = f"step {result.exported}" if result else "–"
        rows.append([name, f"rlhf {run.status.verb}", run.status.state, exported, *after])
    return Table(["", "trained by", "state", "exported", *figures], rows)


Each = tuple[str, SavedRun, SupervisedResult | None]


def _difference(base: Each, other: Each) -> Difference:
    """The paired change of each figure from the base to the other run."""
    found = _paired(base, other)
    if isinstance(found, str):
        return Difference(other[0], None, found)
    objective, before, after = found
    old, new = (objective.intervals(one.columns) for one in (before, after))
    rows = [
        [name, shown(name, old[name]), shown(name, new[name]), shown(name, change, "+")]
        for name, change in changes(objective, before, after).items()
    ]
    return Difference(other[0], Table(["", base[0], other[0], "difference"], rows), None)


def _paired(base: Each, other: Each) -> tuple[Objective, Evaluation, Evaluation] | str:
    """The objective, and the evaluations of the exported steps; or why they cannot be compared by row."""
    settings = [mapping_in(run.config, "objective") for _, run, _ in (base, other)]
    if settings[0] != settings[1]:
        return "their objectives differ"
    try:
        objective = _OBJECTIVE.validate_python(settings[0])
    except ValidationError:
        return "the objective cannot be read"
    before, after = (
        read_evaluations(run.status.folder, objective).get(result.exported) if result else None
        for _, run, result in (base, other)
    )
    if before is None or after is None:
        return "one of them has not ended, or has no evaluation that can be read"
    rows = [mapping_in(run.record, "data").get("sha256") for _, run, _ in (base, other)]
    if rows[0] is None or rows[0] != rows[1] or len(before.columns["loss"]) != len(after.columns["loss"]):
        return "their rows differ"
    return objective, before, after
