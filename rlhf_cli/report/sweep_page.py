"""The page of a sweep: the recommendation and its reason, the points, their curves, and the trials."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from rlhf_cli.charts.pictures import Chart, HeatMap, Series, Style
from rlhf_cli.evaluation.intervals import with_error
from rlhf_cli.report.frontier import LEFT_OVER, RECOMMENDED, frontier, has_bars
from rlhf_cli.report.page import render
from rlhf_cli.report.table import Link, Table
from rlhf_cli.runs.folder import REPORT
from rlhf_cli.sweep.answer import Answer
from rlhf_cli.sweep.points import Point
from rlhf_cli.sweep.record import SweepRecord, Trial, name_of

CURVES: Final[tuple[Style, ...]] = ("line", "dashed")


def html(sweep: SweepRecord, answer: Answer) -> str:
    """The whole page. It links to the reports of the trials that have one."""
    curves = _curved(answer)
    return render(
        "sweep.html.j2",
        title=f"Sweep {sweep.folder.name}",
        answer=answer,
        recommended=answer.point(answer.recommended),
        frontier=frontier(answer.oracle, answer.points, answer.recommended),
        has_hidden_intervals=not all(map(has_bars, answer.points)),
        heat_map=_heat_map(answer),
        measure=_measure(answer),
        intervals=intervals_over(answer),
        points=_points(sweep, answer),
        curves=list(_curves(answer, curves)),
        curves_shown=len(curves),
        trials=_trials(sweep, answer),
    )


def intervals_over(answer: Answer) -> str:
    """The ± of the points, in words."""
    kinds = {point.over for point in answer.points}
    if kinds == {"prompts"}:
        return "±: 95 % interval over the prompts of a run"
    if kinds == {"seeds"}:
        return "±: 95 % interval over the means of the seeds"
    return "±: 95 % interval over the means of the seeds; where there is one run, over its prompts"


def _heat_map(answer: Answer) -> HeatMap | None:
    grid = answer.grid
    if grid is None:
        return None

    def value(number: int | None) -> float:
        point = answer.point(number)
        return point.objective.mean if point else math.nan

    places = [
        (row, numbers.index(answer.recommended))
        for row, numbers in enumerate(grid.numbers)
        if answer.recommended is not None and answer.recommended in numbers
    ]
    return HeatMap(
        f"{_measure(answer)}, by {grid.keys[0]} and {grid.keys[1]}",
        grid.keys[0],
        grid.keys[1],
        grid.columns,
        grid.rows,
        [[value(number) for number in row] for row in grid.numbers],
        places[0] if places else None,
    )


def _points(sweep: SweepRecord, answer: Answer) -> Table:
    head = ("", "point", "reward", "KL, nats", "J", "change of J", "length", "runs")
    rows = [
        (
            f"{point.number}{'*' if point.pareto else ''}",
            _spaced(point.name),
            with_error(point.reward, 3),
            with_error(point.kl, 2),
            with_error(point.objective, 3),
            "–" if point.change is None else with_error(point.change, 3, "+"),
            with_error(point.length, 1),
            [
                Link(f"seed {seed}" if (seed := trial.told.get("seed")) else "run", _address(sweep, trial))
                for trial in point.finished
            ],
        )
        for point in answer.points
    ]
    strong = next((row for row, point in enumerate(answer.points) if point.number == answer.recommended), None)
    return Table(head, rows, words=range(1, 2), strong=strong)


def _curved(answer: Answer) -> list[Point]:
    """The best points, no more than curves can be told apart, in the sweep's order."""
    ranked = sorted(answer.points, key=lambda p: (p.number != answer.recommended, not p.pareto, p.number))
    count = len(CURVES) * len(LEFT_OVER) + (answer.recommended is not None)
    return sorted(ranked[:count], key=lambda point: point.number)


def _curves(answer: Answer, points: Sequence[Point]) -> Iterator[Chart]:
    def chart(title: str, of: Callable[[Point], Sequence[tuple[int, float]]]) -> Chart:
        looks = iter([(colour, style) for style in CURVES for colour in LEFT_OVER])
        series = []
        for point in points:
            colour, style = (RECOMMENDED, CURVES[0]) if point.number == answer.recommended else next(looks)
            steps, values = [s for s, _ in of(point)], [v for _, v in of(point)]
            label = f"{point.number}: {_spaced(point.name)}"
            series.append(Series(label, steps, values, style=style, colour=colour))
        return Chart(title, "step", _measure(answer), series)

    yield chart("On the held-out prompts", lambda point: point.held_out)
    if any(point.training for point in points):
        yield chart("On the completions of each step", lambda point: point.training)


def _trials(sweep: SweepRecord, answer: Answer) -> Table:
    left_out = {missing.trial.name: missing for missing in answer.left_out}
    rows: list[tuple[str | Link, ...]] = []
    for trial in sweep.trials:
        name: str | Link = _spaced(name_of(trial.told))
        if (sweep.path(trial) / REPORT).is_file():
            name = Link(str(name), _address(sweep, trial))
        missing = left_out.get(trial.name)
        if missing is None:
            rows.append((name, "finished", "", ""))
        else:
            log: str | Link = Link("log", f"{trial.name}/{missing.log.name}") if missing.log else ""
            rows.append((name, missing.state, missing.reason, log))
    columns = 4 if left_out else 2
    return Table(("trial", "state", "why", "")[:columns], [row[:columns] for row in rows], words=range(1, columns))


def _address(sweep: SweepRecord, trial: Trial) -> str:
    """The trial's report, or its folder where there is none, relative to the page."""
    return f"{trial.name}/{REPORT}" if (sweep.path(trial) / REPORT).is_file() else f"{trial.name}/"


def _measure(answer: Answer) -> str:
    return f"J = reward - {answer.beta or 0:g}·KL"


def _spaced(name: str) -> str:
    """The name with spaces where a line may break."""
    return name.replace(",", ", ")
