"""A metric over the steps of a run as a series; neighbouring steps of a long run are averaged."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rlhf_cli.charts.pictures import Series, Style
from rlhf_cli.evaluation.evaluation import nats
from rlhf_cli.evaluation.intervals import Estimate, Interval, Share, t_quantile

MOST: Final = 200
"""Most points of a curve. Of a longer run, several steps share a point."""
MOST_HELD_OUT: Final = 60
"""Most points of held-out evaluations."""

Rows = Sequence[Mapping[str, Any]]


def curve(label: str, rows: Rows, key: str, error: str = "") -> Series:
    """The metric at the steps that have it, averaged in a long run, with a band of one standard error."""
    xs, ys = column(rows, key)
    if not error:
        xs, ys = thin([xs, ys])
        return Series(label, xs, ys)
    errors = [_drawn(row, error) for row in rows if key in row]
    return _with_errors(label, thin([xs, ys, errors]), "line")


def points(label: str, rows: Rows, key: str, error: str, prompts: int) -> Series:
    """A metric of the held-out evaluations, with 95 % intervals over `prompts` prompts where `error` is known."""
    rows = [row for row in rows if key in row]
    times = t_quantile(0.975, prompts - 1) if prompts > 1 else math.nan
    errors = [times * _drawn(row, error) for row in rows]
    columns = [*column(rows, key), errors]
    start = 1 if rows and rows[0]["step"] == 0 else 0  # the reference stays by itself
    later = thin([values[start:] for values in columns], MOST_HELD_OUT)
    joined = [[*values[:start], *others] for values, others in zip(columns, later, strict=True)]
    return _with_errors(label, joined, "points")


def with_intervals(label: str, xs: Sequence[float], ys: Sequence[Estimate | Share | Interval], **more: Any) -> Series:
    """Figures with their intervals; `more` are further fields of the series."""
    return Series(label, xs, [y.mean for y in ys], [y.low for y in ys], [y.high for y in ys], **more)


def column(rows: Rows, key: str) -> tuple[list[float], list[float]]:
    """Steps and values of the rows that have the key; a value that is no finite number is NaN."""
    present = [row for row in rows if key in row]
    return [number(row["step"]) for row in present], [_drawn(row, key) for row in present]


def number(value: Any) -> float:
    """The value as a float; NaN where it is no number, or too large to draw."""
    drawable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return float(value) if drawable else math.nan


def steps_per_point(count: int, most: int = MOST) -> int:
    """The number of neighbours that share a point, for `count` values in at most `most` points."""
    return max(math.ceil(count / most), 1)


def thin(columns: Sequence[Sequence[float]], most: int = MOST) -> list[list[float]]:
    """The columns with neighbours averaged into at most `most` values; NaN where no neighbour is finite."""
    size = steps_per_point(len(columns[0]), most)
    return [[_mean(values[start : start + size]) for start in range(0, len(values), size)] for values in columns]


def has_points(series: Series) -> bool:
    """Whether the series has a value that can be drawn."""
    return any(map(math.isfinite, series.ys))


def _drawn(row: Mapping[str, Any], key: str) -> float:
    value = number(row.get(key))
    return nats(value) if "kl/" in key else value


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def _with_errors(label: str, columns: Sequence[Sequence[float]], style: Style) -> Series:
    """A series from three columns: x, y and the error of y."""
    xs, ys, errors = columns
    low = [y - error for y, error in zip(ys, errors, strict=True)]
    high = [y + error for y, error in zip(ys, errors, strict=True)]
    return Series(label, xs, ys, low, high, style)
