"""Draw one series of a chart: a line with a band, or points with error bars and names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rlhf_cli.charts.frame import EDGE, colour, line, number, text
from rlhf_cli.charts.pictures import Series, Style
from rlhf_cli.charts.scale import Scale, has_place
from rlhf_cli.charts.words import shorten, width

RADIUS: Final = 5
"""Radius of a point."""


@dataclass(frozen=True, slots=True)
class Point:
    """A point with its intervals. Without an interval, low and high equal y, and x_low and x_high equal x."""

    x: float
    y: float
    low: float
    high: float
    x_low: float
    x_high: float
    name: str


def points_between_gaps(series: Series, x_log: bool, y_log: bool) -> list[list[Point]]:
    """The series cut at its gaps: runs of neighbouring points that have a place on both axes."""
    lows, highs = (series.ys if column is None else column for column in (series.low, series.high))
    x_lows, x_highs = (series.xs if column is None else column for column in (series.x_low, series.x_high))
    names = [""] * len(series.xs) if series.names is None else series.names
    runs: list[list[Point]] = [[]]
    for x, y, low, high, x_low, x_high, name in zip(
        series.xs, series.ys, lows, highs, x_lows, x_highs, names, strict=True
    ):
        if has_place(x, x_log) and has_place(y, y_log):
            low, high = (end if has_place(end, y_log) else y for end in (low, high))
            x_low, x_high = (end if has_place(end, x_log) else x for end in (x_low, x_high))
            runs[-1].append(Point(x, y, low, high, x_low, x_high, name))
        else:
            runs.append([])
    return [run for run in runs if run]


def draw_series(
    runs: Sequence[Sequence[Point]],
    style: Style,
    i: int,
    across: Scale,
    down: Scale,
    end: float,
    hover: Callable[[Point], str],
) -> list[str]:
    """The elements of series `i` on a picture that is `end` wide; `hover` makes the <title> of a point."""
    placed = [[_placed(point, across, down) for point in run] for run in runs]
    if style != "points":
        return _curve(placed, style, i)
    return _points(placed, [hover(p) for run in runs for p in run], i, end)


def _placed(p: Point, across: Scale, down: Scale) -> Point:
    x, x_low, x_high = map(across.at, (p.x, p.x_low, p.x_high))
    y, low, high = map(down.at, (p.y, p.low, p.high))
    return Point(x, y, low, high, x_low, x_high, p.name)


def _curve(runs: Sequence[Sequence[Point]], style: Style, i: int) -> list[str]:
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


def _points(runs: Sequence[Sequence[Point]], titles: Sequence[str], i: int, end: float) -> list[str]:
    """Error bars, dots on them and their names, which keep left of `end`."""
    parts = []
    for p, title in zip((p for run in runs for p in run), titles, strict=True):
        if p.low != p.high:
            parts.append(line(f"error {colour(i)}", p.x, p.low, p.x, p.high))
            parts += [line(f"error {colour(i)}", p.x - 4, y, p.x + 4, y) for y in (p.low, p.high)]
        if p.x_low != p.x_high:
            parts.append(line(f"error {colour(i)}", p.x_low, p.y, p.x_high, p.y))
            parts += [line(f"error {colour(i)}", x, p.y - 4, x, p.y + 4) for x in (p.x_low, p.x_high)]
        parts.append(_dot(p, i, RADIUS, title))
        if p.name:
            name = shorten(p.name, end / 3)
            fits = p.x + RADIUS + 3 + width(name) <= end - EDGE / 2
            x = p.x + RADIUS + 3 if fits else p.x - RADIUS - 3
            parts.append(text("name" if fits else "name end", x, p.y - RADIUS, name))
    return parts


def _dot(point: Point, i: int, radius: float, title: str = "") -> str:
    place = f'cx="{number(point.x)}" cy="{number(point.y)}" r="{radius}"'
    return f'<circle class="points {colour(i)}" {place}>{title}</circle>'


def _path(corners: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{number(x)},{number(y)}" for x, y in corners)
