"""Curves with bands, points with error bars, functions with marks: charts as inline SVG.

A chart carries its own style, light and dark, in colours that colour-blind people can tell apart, and fills the width
of the place it is put in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from rlhf_cli.charts import bars
from rlhf_cli.charts.frame import (
    EDGE,
    LINE,
    Y_TICKS,
    colour,
    document,
    head,
    left_of,
    legend,
    line,
    number,
    text,
    y_axis,
)
from rlhf_cli.charts.scale import Scale, decades, extent, known, labels, log_ticks, ticks
from rlhf_cli.charts.words import FONT, shorten, width

RADIUS: Final = 5
"""Of a point."""


Style = Literal["line", "dashed", "points"]


@dataclass(frozen=True, slots=True)
class Series:
    """Some y for some x, in the order in which they are joined; what is not finite is a gap.

    `low` and `high`, one a point, are a band around a line and error bars on points. Points alone may have error bars
    across as well, by `x_low` and `x_high`, and `names`, which stand beside them.
    """

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    style: Style = "line"
    x_low: Sequence[float] | None = None
    x_high: Sequence[float] | None = None
    names: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line at x, with its name above the plot."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Series over a common x. On a logarithmic axis, what is zero or less is a gap. Colours repeat after seven series.

    `height` is that of the plot; title, axes and legend add to it.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    width: int = 640
    height: int = 300
    x_log: bool = False
    y_log: bool = False
    marks: Sequence[Mark] = ()


Picture = Chart | bars.Bars


def svg(picture: Picture) -> str:
    """The picture as one <svg> element, for a page or a file of its own.

    Raises ValueError where the columns of a series differ in length.
    """
    return bars.draw(picture) if isinstance(picture, bars.Bars) else _draw(picture)


@dataclass(frozen=True, slots=True)
class _Point:
    """A point with its intervals; without one, low and high are y, x_low and x_high are x."""

    x: float
    y: float
    low: float
    high: float
    x_low: float
    x_high: float
    name: str


def _draw(chart: Chart) -> str:
    series = [_runs(one, chart.x_log, chart.y_log) for one in chart.series]
    marks = sorted((mark for mark in chart.marks if known(mark.x, chart.x_log)), key=lambda mark: mark.x)
    points = [point for runs in series for run in runs for point in run]
    ends = extent([end for p in points for end in (p.low, p.y, p.high)], chart.y_log)
    y = decades(*ends, Y_TICKS) if chart.y_log else ticks(*ends, Y_TICKS, outside=True)
    left = left_of(y, chart.y_log)
    xs = [end for p in points for end in (p.x_low, p.x, p.x_high)] + [mark.x for mark in marks]
    low, high = extent(xs, chart.x_log)
    if not chart.x_log and 0 < low < (high - low) / 4:
        low = 0.0
    right = _right(marks, Scale(low, high, 0, 1, chart.x_log), left, chart.width)
    inset = 2 * RADIUS if any(one.style == "points" for one in chart.series) else 0
    across = Scale(low, high, left + inset, right - inset, chart.x_log)

    parts, top = head(chart.title, chart.y_label, chart.width)
    flags, top = _flags(marks, across, chart.width, top, chart.height)
    down = Scale(y[0], y[-1], top + chart.height, top, chart.y_log)
    parts += y_axis(y, down, left, right)
    parts += _x_axis(chart, across, down.start)
    parts += flags
    for i, (one, runs) in enumerate(zip(chart.series, series, strict=True)):
        placed = [[_placed(p, across, down) for p in run] for run in runs]
        parts += _points(placed, i, chart.width) if one.style == "points" else _curve(placed, one.style, i)
    names, styles = [one.label for one in chart.series], [one.style for one in chart.series]
    key, bottom = legend(names, styles, chart.width, down.start + 2 * LINE + 8)
    return document(chart.title, chart.width, bottom + EDGE, [*parts, *key])


def _runs(series: Series, x_log: bool, y_log: bool) -> list[list[_Point]]:
    """The points between the gaps."""
    lows, highs = (series.ys if column is None else column for column in (series.low, series.high))
    x_lows, x_highs = (series.xs if column is None else column for column in (series.x_low, series.x_high))
    names = [""] * len(series.xs) if series.names is None else series.names
    runs: list[list[_Point]] = [[]]
    for x, y, low, high, x_low, x_high, name in zip(
        series.xs, series.ys, lows, highs, x_lows, x_highs, names, strict=True
    ):
        if known(x, x_log) and known(y, y_log):
            low, high = (end if known(end, y_log) else y for end in (low, high))
            x_low, x_high = (end if known(end, x_log) else x for end in (x_low, x_high))
            runs[-1].append(_Point(x, y, low, high, x_low, x_high, name))
        else:
            runs.append([])
    return [run for run in runs if run]


def _placed(p: _Point, across: Scale, down: Scale) -> _Point:
    x, x_low, x_high = map(across.at, (p.x, p.x_low, p.x_high))
    y, low, high = map(down.at, (p.y, p.low, p.high))
    return _Point(x, y, low, high, x_low, x_high, p.name)


def _right(marks: Sequence[Mark], share: Scale, left: float, across: float) -> float:
    """Where the plot ends: early enough for the names of the last marks, which begin at their lines."""
    right = across - EDGE - FONT / 2
    for mark in marks:
        if share.at(mark.x) > 0:
            right = min(right, left + (across - EDGE - width(mark.label) - 1 - left) / share.at(mark.x))
    return max(right, (left + across) / 2)


def _flags(marks: Sequence[Mark], across: Scale, end: float, top: float, height: float) -> tuple[list[str], float]:
    """The marks in ascending order with their names above the plot, and where the plot begins.

    A name starts at its own line and lies above the ends of all lines that it passes over.
    """
    placed: list[tuple[float, str, int]] = []
    for mark in reversed(marks):
        x = across.at(mark.x)
        name = shorten(mark.label, end - EDGE - x)
        row = max((1 + other for place, _, other in placed if place < x + width(name) + 8), default=0)
        placed.append((x, name, row))
    top += LINE * (1 + max((row for *_, row in placed), default=-1))
    parts = []
    for x, name, row in placed:
        base = top - 6 - LINE * row
        parts += [line("mark", x, base + 4, x, top + height), text("", x, base, name)]
    return parts, top


def _x_axis(chart: Chart, across: Scale, bottom: float) -> list[str]:
    """Ticks, as many as have room for their names, and the name of x."""
    for count in (7, 5, 4, 3, 2):
        values = (log_ticks if across.log else ticks)(across.low, across.high, count)
        names = labels(values, across.log)
        halves = [width(name) / 2 for name in names]
        # A name at the right end may be wider than the edge; it moves in.
        middles = [min(across.at(v), chart.width - 4 - half) for v, half in zip(values, halves, strict=True)]
        ends = list(zip(middles, halves, strict=True))
        if all(b - a > wide + wider + FONT for (a, wide), (b, wider) in pairwise(ends)):
            break
    parts = [line("axis", across.start, bottom, across.end, bottom)]
    for value, middle, name in zip(values, middles, names, strict=True):
        place = across.at(value)
        parts += [line("axis", place, bottom, place, bottom + 5), text("middle", middle, bottom + LINE, name)]
    centre = (across.start + across.end) / 2
    room = 2 * min(centre, chart.width - centre) - 2 * EDGE
    return [*parts, text("middle", centre, bottom + 2 * LINE, shorten(chart.x_label, room))]


def _curve(runs: Sequence[Sequence[_Point]], style: str, i: int) -> list[str]:
    """Bands below lines; a point between two gaps has no line and shows as a point."""
    parts = []
    for run in runs:
        if any(p.low != p.high for p in run):
            ring = [(p.x, p.high) for p in run] + [(p.x, p.low) for p in reversed(run)]
            parts.append(f'<path class="band {colour(i)}" d="{_path(ring)}Z"/>')
    for run in runs:
        if len(run) > 1:
            parts.append(f'<path class="{style} {colour(i)}" d="{_path([(p.x, p.y) for p in run])}"/>')
        else:
            parts.append(_dot(run[0], i, RADIUS - 2))
    return parts


def _points(runs: Sequence[Sequence[_Point]], i: int, end: float) -> list[str]:
    """Error bars, dots on them and their names, which keep left of `end`."""
    parts = []
    for p in (p for run in runs for p in run):
        if p.low != p.high:
            parts.append(line(f"error {colour(i)}", p.x, p.low, p.x, p.high))
            parts += [line(f"error {colour(i)}", p.x - 4, y, p.x + 4, y) for y in (p.low, p.high)]
        if p.x_low != p.x_high:
            parts.append(line(f"error {colour(i)}", p.x_low, p.y, p.x_high, p.y))
            parts += [line(f"error {colour(i)}", x, p.y - 4, x, p.y + 4) for x in (p.x_low, p.x_high)]
        parts.append(_dot(p, i, RADIUS))
        if p.name:
            name = shorten(p.name, end / 3)
            fits = p.x + RADIUS + 3 + width(name) <= end - EDGE / 2
            x = p.x + RADIUS + 3 if fits else p.x - RADIUS - 3
            parts.append(text("name" if fits else "name end", x, p.y - RADIUS, name))
    return parts


def _dot(point: _Point, i: int, radius: float) -> str:
    return f'<circle class="points {colour(i)}" cx="{number(point.x)}" cy="{number(point.y)}" r="{radius}"/>'


def _path(corners: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{number(x)},{number(y)}" for x, y in corners)
