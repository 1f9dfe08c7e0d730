"""Draw a chart as SVG: its axes, its marks, and its series between them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from rlhf_cli.charts import frame
from rlhf_cli.charts.hover import strips, title, value_of
from rlhf_cli.charts.pictures import Chart, Mark, Series, colours_of
from rlhf_cli.charts.scale import Scale, decades, extent, has_place, labels, log_ticks, ticks
from rlhf_cli.charts.series import RADIUS, Box, Point, dots_of, draw_series, points_between_gaps
from rlhf_cli.charts.words import FONT, shorten, width

WIDEST: Final = 6
"""Points that stand side by side without touching; more of them overlap."""
Drawn = Sequence[tuple[Series, Sequence[Sequence[Point]]]]
"""Each series with its points, cut at its gaps."""


def draw(chart: Chart) -> str:
    """The chart as one <svg> element. Raises ValueError where the columns of a series differ in length."""
    series = [points_between_gaps(one, chart.x_log, chart.y_log) for one in chart.series]
    marks = sorted((mark for mark in chart.marks if has_place(mark.x, chart.x_log)), key=lambda mark: mark.x)
    points = [point for runs in series for run in runs for point in run]
    ends = extent([end for p in points for end in (p.low, p.y, p.high)], chart.y_log)
    y = decades(*ends, frame.Y_TICKS) if chart.y_log else ticks(*ends, frame.Y_TICKS, outside=True)
    left = frame.left_of(y, chart.y_log)
    xs = [end for p in points for end in (p.x_low, p.x, p.x_high)] + [mark.x for mark in marks]
    low, high = extent(xs, chart.x_log)
    if not chart.x_log and 0 < low < (high - low) / 4:
        low = 0.0
    right = _right(marks, Scale(low, high, 0, 1, chart.x_log), left)
    whole = all(float(x).is_integer() for x in (*(p.x for p in points), *(mark.x for mark in marks)))
    drawn = list(zip(chart.series, series, strict=True))
    abreast = _abreast(drawn) if whole else 1
    inset = (1 + min(abreast, WIDEST)) * RADIUS if any(one.style == "points" for one in chart.series) else 0
    across = Scale(low, high, left + inset, right - inset, chart.x_log)

    parts, top = frame.head(chart.title, chart.y_label)
    top += frame.LINE / 2 if any(one.names for one in chart.series) else 0  # a name may lie above its point
    flags, top = _flags(marks, across, top)
    down = Scale(y[0], y[-1], top + frame.HEIGHT, top, chart.y_log)
    parts += frame.y_axis(y, down, left, right)
    parts += _x_axis(chart.x_label, across, down.start, whole)
    parts += flags
    parts += strips(chart.x_label, drawn, across, down)
    colours, taken = colours_of(chart.series), list[Box]()
    places = _side_by_side(drawn, abreast, across)
    for (one, runs), place in zip(drawn, places, strict=True):
        taken += dots_of(runs, one.style, place, down)
    for i, (one, runs), place in zip(colours, drawn, places, strict=True):
        titles = [title(chart.x_label, p.x, [value_of(p, p.name or one.label)]) for run in runs for p in run]
        parts += draw_series(runs, one.style, i, place, down, titles, taken)
    names, styles = [one.label for one in chart.series], [one.style for one in chart.series]
    key, bottom = frame.legend(names, styles, down.start + 2 * frame.LINE + 8, colours)
    return frame.document(chart.title, bottom + frame.EDGE, [*parts, *key])


def _abreast(drawn: Drawn) -> int:
    """The number of series of points, if two of them have a point at the same step; otherwise 1."""
    steps = [{p.x for run in runs for p in run} for one, runs in drawn if one.style == "points"]
    return len(steps) if sum(map(len, steps)) > len(set().union(*steps)) else 1


def _side_by_side(drawn: Drawn, abreast: int, across: Scale) -> list[Scale]:
    """The places of x of each series: points of several series at the same step stand beside one another."""
    if abreast == 1:
        return [across] * len(drawn)
    steps = sorted({across.at(p.x) for one, runs in drawn if one.style == "points" for run in runs for p in run})
    room = min((b - a for a, b in pairwise(steps)), default=frame.WIDTH) / 2
    each = min(2 * RADIUS, 2 * RADIUS * WIDEST / abreast, room / abreast)
    offsets = iter([each * (number - (abreast - 1) / 2) for number in range(abreast)])
    shifts = [next(offsets) if one.style == "points" else 0.0 for one, _ in drawn]
    return [replace(across, start=across.start + shift, end=across.end + shift) for shift in shifts]


def _right(marks: Sequence[Mark], share: Scale, left: float) -> float:
    """Right end of the plot, which leaves room for the names of the last marks."""
    right = frame.WIDTH - frame.EDGE - FONT / 2
    for mark in marks:
        if share.at(mark.x) > 0:
            right = min(right, left + (frame.WIDTH - frame.EDGE - width(mark.label) - 1 - left) / share.at(mark.x))
    return max(right, (left + frame.WIDTH) / 2)


def _flags(marks: Sequence[Mark], across: Scale, top: float) -> tuple[list[str], float]:
    """The marks in ascending order with their names above the plot, and where the plot begins.

    A name starts at its own line and lies above the ends of all lines that it passes over.
    """
    placed: list[tuple[float, str, int]] = []
    for mark in reversed(marks):
        x = across.at(mark.x)
        name = shorten(mark.label, frame.WIDTH - frame.EDGE - x)
        row = max((1 + other for place, _, other in placed if place < x + width(name) + 8), default=0)
        placed.append((x, name, row))
    top += frame.LINE * (1 + max((row for *_, row in placed), default=-1))
    parts = []
    for x, name, row in placed:
        base = top - 6 - frame.LINE * row
        parts += [frame.line("mark", x, base + 4, x, top + frame.HEIGHT), frame.text("", x, base, name)]
    return parts, top


def _x_axis(name_of_x: str, across: Scale, bottom: float, whole: bool) -> list[str]:
    """Ticks, as many as have room for their names, and the name of x; between steps, which are `whole`, is none."""
    for count in (7, 5, 4, 3, 2):
        values = (log_ticks if across.log else ticks)(across.low, across.high, count)
        values = [value for value in values if value.is_integer()] if whole and not across.log else values
        names = labels(values, across.log)
        halves = [width(name) / 2 for name in names]
        # A name at the right end may be wider than the edge; it moves in.
        middles = [min(across.at(v), frame.WIDTH - 4 - half) for v, half in zip(values, halves, strict=True)]
        ends = list(zip(middles, halves, strict=True))
        if all(b - a > wide + wider + FONT for (a, wide), (b, wider) in pairwise(ends)):
            break
    parts = [frame.line("axis", across.start, bottom, across.end, bottom)]
    for value, middle, name in zip(values, middles, names, strict=True):
        place = across.at(value)
        parts += [
            frame.line("axis", place, bottom, place, bottom + 5),
            frame.text("middle", middle, bottom + frame.LINE, name),
        ]
    centre = (across.start + across.end) / 2
    room = 2 * min(centre, frame.WIDTH - centre) - 2 * frame.EDGE
    return [*parts, frame.text("middle", centre, bottom + 2 * frame.LINE, shorten(name_of_x, room))]
