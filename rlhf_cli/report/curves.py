"""What a run measured step by step, as charts: which metrics belong together, and long runs averaged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from rlhf_cli.charts.frame import COLOURS
from rlhf_cli.charts.pictures import Bars, BarSeries, Chart, Picture, Series, Style
from rlhf_cli.evaluation.intervals import t_quantile

MOST: Final = 200
"""Points of a curve; of more steps than that several share a point."""
MOST_HELD_OUT: Final = 60
"""Points of evaluations, which are drawn one by one."""
WIDTH: Final = 480
HEIGHT: Final = 210
SMALL: Final = 0.01
"""Share of the time below which a phase has no curve."""

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Plot:
    """One chart: a metric over steps, with its standard error and what held-out evaluations say of it."""

    title: str
    y_label: str
    key: str
    error: str = ""
    held_out: str = ""
    held_out_error: str = ""


PLOTS: Final = (
    Plot("Objective J", "reward − β·KL", "objective", "", "eval/objective", "eval/objective_se"),
    Plot("Reward", "mean of a completion", "reward/mean", "reward/mean_se", "eval/reward/mean", "eval/reward/se"),
    Plot("KL to the reference, exact", "nats a completion", "kl/seq", "kl/seq_se", "eval/kl/seq", "eval/kl/seq_se"),
    Plot("Entropy", "nats a token", "policy/entropy"),
    Plot("Length", "tokens", "completion/length", "", "eval/completion/length"),
    Plot("Cut at max_new_tokens", "share of completions", "completion/truncated", "", "eval/completion/truncated"),
    Plot("β", "per nat", "beta"),
    Plot("Temperature", "of the rollouts", "temperature"),
    Plot("Clipped", "share of tokens", "policy/clip_fraction"),
    Plot("Value head: variance explained", "share", "value/explained_variance"),
    Plot("Gradient norm", "before it is clipped", "grad_norm"),
    Plot("Sampler against trainer", "largest gap, nats", "sampler/gap"),
)
SETTINGS: Final = ("beta", "temperature")
"""Drawn only where they change."""
COMPARED: Final = tuple(plot for plot in PLOTS if plot.held_out or plot.key == "policy/entropy")
"""What several runs are compared by."""


def pictures(metrics: Rows, prompts: int) -> list[Chart]:
    """A chart for every plot that has points; `prompts` is how many an evaluation has."""
    found = []
    for plot in PLOTS:
        steps = column(metrics, plot.key)
        if plot.key in SETTINGS and len(set(steps[1])) < 2:
            continue
        held_out = points("held-out", metrics, plot, prompts)
        name = "training" if _has_points(held_out) else ""  # a single curve needs no legend
        training = curve(name, metrics, plot.key, plot.error)
        if series := [one for one in (training, held_out) if _has_points(one)]:
            found.append(_chart(plot.title, plot.y_label, series))
    return found


def overlaid(runs: Sequence[tuple[str, Rows, int]]) -> list[Chart]:
    """The same for several runs, each with a name, its metrics and the prompts of its evaluations.

    Training and evaluations are in charts of their own, so that a run has one colour in all of them.
    """
    found = []
    for plot in COMPARED:
        training = [curve(name, rows, plot.key) for name, rows, _ in runs]
        held_out = [points(name, rows, plot, prompts) for name, rows, prompts in runs]
        for what, series in (("held-out", held_out), ("training", training)):
            if any(map(_has_points, series)):
                found.append(
                    _chart(f"{plot.title}, {what}", plot.y_label, list(map(_placed, range(len(series)), series)))
                )
    return found


def timing(timings: Rows) -> list[Picture]:
    """Where the time went: seconds a step by phase, all seconds of each phase, and tokens a second."""
    names = [key for row in timings for key in row if key.startswith("time/") and key != "time/step_s"]
    total = {key: math.fsum(filter(math.isfinite, column(timings, key)[1])) for key in dict.fromkeys(names)}
    total = {key: seconds for key, seconds in total.items() if seconds > 0}
    if not total:
        return []
    steps = [row for row in timings if row["step"] > 0]
    everything = math.fsum(total.values())
    stretches = ("time/evaluation_s", "time/checkpoint_s")  # of some steps only, and far longer than a step
    phases = [key for key in total if key not in stretches and total[key] > SMALL * everything]
    series = [one for one in (curve(_phase(key), steps, key) for key in phases) if _has_points(one)]
    largest = sorted(total, key=lambda key: -total[key])
    found: list[Picture] = [
        Bars(
            f"Where {_duration(everything)} went",
            "seconds",
            [_phase(key) for key in largest],
            [BarSeries("", [total[key] for key in largest])],
            WIDTH,
            HEIGHT,
        )
    ]
    if series:
        found.insert(0, _chart("Time of a step, by phase", "seconds", series))
    speed = curve("", steps, "tokens_per_s")
    return [*found, _chart("Speed of training", "tokens a second", [speed])] if _has_points(speed) else found


def curve(label: str, rows: Rows, key: str, error: str = "") -> Series:
    """The metric at the steps that have it, thinned, with a band of one standard error."""
    xs, ys = column(rows, key)
    if not error:
        xs, ys = thinned([xs, ys])
        return Series(label, xs, ys)
    errors = [number(row.get(error)) for row in rows if key in row]
    return _with_errors(label, thinned([xs, ys, errors]), "line")


def points(label: str, rows: Rows, plot: Plot, prompts: int) -> Series:
    """The held-out evaluations of a plot's metric, with 95 % intervals where their standard errors are known."""
    rows = [row for row in rows if plot.held_out in row]
    times = t_quantile(0.975, prompts - 1) if prompts > 1 else math.nan
    errors = [times * number(row.get(plot.held_out_error)) for row in rows]
    columns = [*column(rows, plot.held_out), errors]
    start = 1 if rows and rows[0]["step"] == 0 else 0  # the reference stays by itself
    later = thinned([values[start:] for values in columns], MOST_HELD_OUT)
    joined = [[*values[:start], *others] for values, others in zip(columns, later, strict=True)]
    return _with_errors(label, joined, "points")


def column(rows: Rows, key: str) -> tuple[list[float], list[float]]:
    """Steps and values of the rows that have the key; what is no finite number is NaN."""
    found = [row for row in rows if key in row]
    return [number(row["step"]) for row in found], [number(row[key]) for row in found]


def number(value: Any) -> float:
    """The value as it can be drawn: NaN where it is no number, or one that no picture has room for."""
    drawable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return float(value) if drawable else math.nan


def together(count: int, most: int = MOST) -> int:
    """How many neighbours share a point where there are `count` values and room for `most`."""
    return max(math.ceil(count / most), 1)


def thinned(columns: Sequence[Sequence[float]], most: int = MOST) -> list[list[float]]:
    """The columns with neighbours averaged so that no more than `most` are left; NaN where none of them is a number."""
    size = together(len(columns[0]), most)
    return [[_mean(values[start : start + size]) for start in range(0, len(values), size)] for values in columns]


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def _with_errors(label: str, columns: Sequence[Sequence[float]], style: Style) -> Series:
    """A series of three columns: x, y and the error of y."""
    xs, ys, errors = columns
    low = [y - error for y, error in zip(ys, errors, strict=True)]
    high = [y + error for y, error in zip(ys, errors, strict=True)]
    return Series(label, xs, ys, low, high, style)


def _chart(title: str, y_label: str, series: Sequence[Series]) -> Chart:
    return Chart(title, "step", y_label, series, WIDTH, HEIGHT)


def _has_points(series: Series) -> bool:
    return any(map(math.isfinite, series.ys))


def _placed(place: int, series: Series) -> Series:
    """A run that has nothing to show keeps its place, and so the others their colours, but has no legend.

    Where the colours begin again, lines are dashed.
    """
    label = series.label if _has_points(series) else ""
    dashed = series.style == "line" and place >= COLOURS
    return replace(series, label=label, style="dashed" if dashed else series.style)


def _phase(key: str) -> str:
    return key.removeprefix("time/").removesuffix("_s")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
