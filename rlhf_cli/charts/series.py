"""Draw one series of a chart: a line with a band, or points with error bars and names."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rlhf_cli.charts.frame import EDGE, WIDTH, colour, line, number, text
from rlhf_cli.charts.pictures import Series, Style
from rlhf_cli.charts.scale import Scale, has_place
from rlhf_cli.charts.words import FONT, shorten, width

RADIUS: Final = 5
"""Radius of a point."""
ASCENT: Final = 0.75 * FONT
"""Height of a letter above its baseline."""
Box = tuple[float, float, float, float]
"""Left, top, right and bottom of what a name must not cover."""


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
    titles: Sequence[str],
    taken: list[Box],
) -> list[str]:
    """The elements of a series of colour `i`; `titles` are the <title> elements of its points.

    Names keep clear of the boxes in `taken`, and are added to them.
    """
    placed = [[_placed(point, across, down) for point in run] for run in runs]
    return _points(placed, titles, i, taken) if style == "points" else _curve(placed, style, i)


def dots_of(runs: Sequence[Sequence[Point]], style: Style, across: Scale, down: Scale) -> list[Box]:
    """The boxes of the dots of a series; a line has none."""
    if style != "points":
        return []
    dots = [_placed(point, across, down) for run in runs for point in run]
    return [(p.x - RADIUS, p.y - RADIUS, p.x + RADIUS, p.y + RADIUS) for p in dots]


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


def _points(runs: Sequence[Sequence[Point]], titles: Sequence[str], i: int, taken: list[Box]) -> list[str]:
    """Error bars, dots on them and their names, which keep clear of what is taken."""
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
            name = shorten(p.name, WIDTH / 3)
            kind, x, y = _place_name(p, width(name), taken)
            parts.append(text(kind, x, y, name))
    return parts


def _place_name(p: Point, wide: float, taken: list[Box]) -> tuple[str, float, float]:
    """The class and place of the name of a point: beside the dot, or above or below where that is taken.

    Where all places are taken, it is the first within the picture.
    """
    gap = RADIUS + 3
    rows = [p.y - RADIUS, p.y + RADIUS + ASCENT, *(p.y - RADIUS - n * FONT for n in (1, 2, 3))]
    places = [(kind, p.x + side * gap, y) for y in rows for kind, side in (("name", 1), ("name end", -1))]
    lefts = [x if kind == "name" else x - wide for kind, x, _ in places]
    boxes = [(left, y - ASCENT, left + wide, y) for left, (_, _, y) in zip(lefts, places, strict=True)]
    inside = [k for k, box in enumerate(boxes) if box[0] >= EDGE / 2 and box[2] <= WIDTH - EDGE / 2] or [0]
    free = [k for k in inside if not any(_overlap(boxes[k], other) for other in taken)]
    best = (free or inside)[0]
    taken.append(boxes[best])
    return places[best]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _dot(point: Point, i: int, radius: float, title: str = "") -> str:
    place = f'cx="{number(point.x)}" cy="{number(point.y)}" r="{radius}"'
    return f'<circle class="points {colour(i)}" {place}>{title}</circle>'


def _path(corners: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{number(x)},{number(y)}" for x, y in corners)
