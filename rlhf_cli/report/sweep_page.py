"""The page of a sweep: what it recommends and why, its points, their curves, and its trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rlhf_cli.charts import heat
from rlhf_cli.charts.frame import COLOURS
from rlhf_cli.charts.pictures import Chart, HeatMap, Series
from rlhf_cli.charts.svg import svg
from rlhf_cli.evaluation.intervals import Estimate
from rlhf_cli.report.frontier import frontier, has_bars
from rlhf_cli.report.page import Section, page
from rlhf_cli.report.table import Link, Table
from rlhf_cli.report.table import html as table_html
from rlhf_cli.runs.folder import REPORT
from rlhf_cli.sweep.answer import Answer, Grid, Point
from rlhf_cli.sweep.record import Sweep


def html(sweep: Sweep, found: Answer) -> str:
    """The whole page as HTML. Its links lead to the reports of the trials, where they are there."""
    sections = [_recommendation(found)]
    if found.points:
        sections.append(_frontier(found))
        if found.grid is not None:
            sections.append(_grid(found, found.grid))
        sections += [_points(found), _curves(found)]
    sections += [_trials(sweep, found), Section("Again", ["What repeats and continues this sweep:"], found.command)]
    return page(f"Sweep {sweep.folder.name}", sections)


def _recommendation(found: Answer) -> Section:
    chosen = found.point(found.recommended)
    heading = f"Recommended: {chosen.said}" if chosen else "No recommendation"
    return Section(heading, found.reason, findings=found.warnings)


def _frontier(found: Answer) -> Section:
    said = [
        "Each point is the last evaluation, at temperature 1, by its number in the table below. Further up is more "
        "reward, further left is nearer to the reference. On the Pareto front is what no other point beats: none has "
        "at least as much reward at no more KL."
    ]
    findings = []
    if found.oracle is None:
        findings.append(f"The optimum's curve is not known: {found.no_oracle}.")
    else:
        count = f"{found.oracle.prompts} prompts x {found.oracle.samples} completions of the reference"
        said.append(f"The optimum's curve and the best of n are estimated from {count}, of before the training.")
        if not any(point.covered for point in found.oracle.curve):
            findings.append("There are too few completions to trust any part of the curve (evaluate.samples).")
    if not all(map(has_bars, found.points)):
        findings.append("The interval of two seeds is 13 standard errors to either side: in the table, not drawn.")
    return Section(
        "Reward against KL", said, svg=svg(frontier(found.oracle, found.points, found.recommended)), findings=findings
    )


def _grid(found: Answer, grid: Grid) -> Section:
    def value(number: int | None) -> float:
        point = found.point(number)
        return point.objective.mean if point else math.nan

    places = [(r, row.index(found.recommended)) for r, row in enumerate(grid.numbers) if found.recommended in row]
    picture = HeatMap(
        f"{_measure(found)}, by {grid.keys[0]} and {grid.keys[1]}",
        grid.keys[0],
        grid.keys[1],
        grid.columns,
        grid.rows,
        [[value(number) for number in row] for row in grid.numbers],
        places[0] if places and found.recommended is not None else None,
    )
    return Section("Over both settings", svg=heat.draw(picture), findings=["The border is around what is recommended."])


def _points(found: Answer) -> Section:
    several = any(point.trials > 1 for point in found.points)
    head = ("", "point", "reward", "KL, nats", "J", "change of J", "length", *(("runs",) if several else ()))
    rows = [
        (
            f"{point.number}{'*' if point.pareto else ''}",
            _spaced(point.name),
            _with_error(point.reward, 3),
            _with_error(point.kl, 2),
            _with_error(point.objective, 3),
            "–" if point.change is None else _with_error(point.change, 3, "+"),
            _with_error(point.length, 1),
            *((f"{len(point.finished)} of {point.trials}",) if several else ()),
        )
        for point in found.points
    ]
    strong = frozenset(i for i, point in enumerate(found.points) if point.number == found.recommended)
    table = Table(head, rows, numbers=frozenset(range(2, len(head))), long=frozenset({1}), strong=strong)
    said = f"{_measure(found)}. {said_intervals(found)}. The change is from the reference, paired by prompt."
    return Section("The points", [said], svg=table_html(table), findings=["*: on the Pareto front."])


def said_intervals(found: Answer) -> str:
    """What the ± of the points are."""
    kinds = {point.over for point in found.points}
    if kinds == {"prompts"}:
        return "±: 95 % interval over the prompts of a run"
    if kinds == {"seeds"}:
        return "±: 95 % interval over the means of the seeds"
    return "±: 95 % interval over the means of the seeds; where there is one run, over its prompts"


def _curves(found: Answer) -> Section:
    ranked = sorted(found.points, key=lambda one: (one.number != found.recommended, not one.pareto, one.number))
    kept = {point.number for point in ranked[:COLOURS]}
    shown = [point for point in found.points if point.number in kept]

    def chart(title: str, of: Callable[[Point], Sequence[tuple[int, float]]]) -> str:
        series = []
        for point in shown:
            steps, values = [step for step, _ in of(point)], [value for _, value in of(point)]
            series.append(Series(f"{point.number}: {_spaced(point.name)}", steps, values))
        return svg(Chart(title, "step", _measure(found), series))

    pictures = [chart("On the held-out prompts", lambda point: point.held_out)]
    if any(point.training for point in shown):
        pictures.append(chart("On the completions of each step", lambda point: point.training))
    findings = ["The completions of a step are sampled at the run's own temperature; held-out ones at temperature 1."]
    if len(shown) < len(found.points):
        findings.append(f"{len(shown)} of {len(found.points)} points are shown: the Pareto front first.")
    return Section("Learning curves", [], svg="\n".join(pictures), findings=findings)


def _trials(sweep: Sweep, found: Answer) -> Section:
    left_out = {one.trial.name: one for one in found.left_out}
    rows: list[tuple[str | Link, ...]] = []
    for trial in sweep.trials:
        told = ", ".join(f"{key}={value}" for key, value in trial.told.items()) or "the only one"
        there = (sweep.path(trial) / REPORT).is_file()
        name: str | Link = Link(told, f"{trial.name}/{REPORT}") if there else told
        missing = left_out.get(trial.name)
        if missing is None:
            rows.append((name, "finished", "", ""))
        else:
            log: str | Link = Link("log", f"{trial.name}/{missing.log.name}") if missing.log else ""
            rows.append((name, missing.state, missing.reason, log))
    head, full = ("trial", "state", "why", ""), bool(left_out)
    table = Table(head if full else head[:2], rows if full else [row[:2] for row in rows], long=frozenset({0, 2}))
    return Section("The trials", svg=table_html(table))


def _measure(found: Answer) -> str:
    return f"J = reward - {found.beta or 0:g}·KL"


def _spaced(name: str) -> str:
    """With room to break the line."""
    return name.replace(",", ", ")


def _with_error(value: Estimate, digits: int, sign: str = "") -> str:
    mean = round(value.mean, digits) + 0.0  # never -0.000
    return f"{mean:{sign}.{digits}f} ± {value.half_width:.{digits}f}"
