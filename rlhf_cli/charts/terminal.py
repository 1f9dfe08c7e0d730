"""Draw charts and bars in characters of a terminal: rows of spans, each a text and the colour of its series.

With colours, a curve is made of braille dots, two by four a character. Without colours, every series has its own
character.
"""

import math
from collections.abc import Sequence
from itertools import cycle, pairwise
from typing import Final

from rlhf_cli.charts.pictures import Bars, Chart, Picture, Series, colours_of
from rlhf_cli.charts.scale import Scale, decades, extent, has_place, labels, ticks

Span = tuple[str, str]
"""A text and its style, as rich names it."""
Row = tuple[Span, ...]
Ink = tuple[str, str]
"""A series' character where there are no colours, and its style where there are."""

STYLES: Final = ("bright_blue", "bright_red", "green", "magenta", "yellow", "cyan", "")
SYMBOLS: Final = "*o+x#@%"
FILLS: Final = "█▒░▓▚▞▤"
BRAILLE: Final = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""The bit of each dot, by column and row."""
BLANK: Final = 0x2800
POINT: Final = "●"
HEIGHT: Final = 11
"""Rows of a plot."""
NARROWEST: Final = 24
"""Columns of a plot, however narrow the terminal is: the numbers at both ends need them."""


def rows(picture: Picture, width: int, colours: bool, height: int = HEIGHT) -> list[Row]:
    """The picture in rows of at most `width` characters, title first; wider only where a plot would be too narrow.

    `height` is the number of rows of a plot.
    """
    drawn = _bars(picture, width, colours) if isinstance(picture, Bars) else _chart(picture, width, colours, height)
    return [((picture.title, "bold"),), *drawn]


def _bars(bars: Bars, width: int, colours: bool) -> list[Row]:
    """The bars of each category below one another, as long as the size of their value, which stands behind them."""
    names = max(map(len, bars.categories), default=0)
    largest = max((abs(v) for one in bars.series for v in one.values if math.isfinite(v)), default=0.0) or 1.0
    room = width - names - 8
    numbered = [(place % len(STYLES), one) for place, one in enumerate(bars.series)]
    output: list[Row] = []
    for i, category in enumerate(bars.categories):
        for k, one in numbered:
            value = one.values[i]
            size = round(abs(value) / largest * room) if math.isfinite(value) else 0
            fill = (FILLS[0] if colours else FILLS[k]) * size
            name = category if one is bars.series[0] else ""
            output.append(((f"{name:<{names}} ", ""), (fill or "▏", STYLES[k]), (f" {value:.3f}", "dim")))
    key = [("━━" if colours else FILLS[k] * 2, one.label, STYLES[k]) for k, one in numbered]
    return [*output, *_legend(key, width)]


def _chart(chart: Chart, width: int, colours: bool, height: int) -> list[Row]:
    """The curves between two axes, the names of the marks above and a legend below."""
    marks = [mark for mark in chart.marks if has_place(mark.x, chart.x_log)]
    points = [(x, y) for one in chart.series for x, y in zip(one.xs, one.ys, strict=True)]
    points = [(x, y) for x, y in points if has_place(x, chart.x_log) and has_place(y, chart.y_log)]
    xs, ys = [x for x, _ in points] + [mark.x for mark in marks], [y for _, y in points]
    low, high = extent(ys, chart.y_log)
    y = decades(low, high, 4) if chart.y_log else ticks(low, high, 4, outside=True)
    names = labels(y, chart.y_log)
    left = max(map(len, names))
    columns = max(width - left - 2, NARROWEST)
    fine = (2, 4) if colours else (1, 1)
    across = Scale(*extent(xs, chart.x_log), 0, columns * fine[0] - 1, chart.x_log)
    down = Scale(y[0], y[-1], height * fine[1] - 1, 0, chart.y_log)
    cells: list[list[Span]] = [[(" ", "")] * columns for _ in range(height)]
    for mark in marks:
        for line in cells:
            line[round(across.at(mark.x)) // fine[0]] = ("┊", "dim")
    shades = [STYLES[number % len(STYLES)] for number in colours_of(chart.series)]
    inks = list(zip(cycle(SYMBOLS), shades))
    for ink, one in zip(inks, chart.series, strict=True):
        _draw(cells, one, _dots(one, across, down), ink, fine)
        _write_names(cells, one, across, down, ink, fine)
    ticked = {round(down.at(value)) // fine[1]: name for value, name in zip(y, names, strict=True)}
    output: list[Row] = [((" " * left + " " + chart.y_label, "dim"),)]
    if marks:
        flags = _over([(mark.label, round(across.at(mark.x)) // fine[0]) for mark in marks], columns)
        output.append(((" " * (left + 2) + flags, "dim"),))
    for n, line in enumerate(cells):
        output.append(((f"{ticked.get(n, ''):>{left}} {'┤' if n in ticked else '│'}", "dim"), *line))
    tiny = 1e-9 * (across.high - across.low)  # the rounding error of a sum that is zero
    ends = tuple(f"{0.0 if abs(end) < tiny else end:.4g}" for end in (across.low, across.high))
    gap = columns - len(ends[0]) - len(ends[1])
    output.append(((f"{'':>{left}} └{'─' * columns}", "dim"),))
    output.append(((f"{'':>{left}}  {ends[0]}{chart.x_label[: gap - 2]:^{gap}}{ends[1]}", "dim"),))
    key = [(_sample(one, ink, colours), one.label, ink[1]) for ink, one in zip(inks, chart.series, strict=True)]
    return [*output, *_legend(key, width)]


def _dots(series: Series, across: Scale, down: Scale) -> list[tuple[int, int]]:
    """The places that a series covers on the grid: its points and the lines between them."""
    places = [
        (across.at(x), down.at(y)) if has_place(x, across.log) and has_place(y, down.log) else None
        for x, y in zip(series.xs, series.ys, strict=True)
    ]
    output = [(round(place[0]), round(place[1])) for place in places if place]
    if series.style != "points":
        for a, b in pairwise(places):
            if a and b:
                count = max(math.ceil(max(abs(a[0] - b[0]), abs(a[1] - b[1]))), 1)
                between = [(a[0] + (b[0] - a[0]) * k / count, a[1] + (b[1] - a[1]) * k / count) for k in range(count)]
                output += [(round(x), round(y)) for x, y in between]
    return [(x, y) for x, y in output if series.style != "dashed" or x // 4 % 2 == 0]


def _draw(
    cells: list[list[Span]], one: Series, dots: Sequence[tuple[int, int]], ink: Ink, fine: tuple[int, int]
) -> None:
    symbol, style = ink
    for x, y in dots:
        line, column = cells[y // fine[1]], x // fine[0]
        if fine == (1, 1):
            line[column] = (symbol, "")
        elif one.style == "points":
            line[column] = (POINT, style)
        else:
            before = ord(line[column][0]) - BLANK
            kept = before if 0 < before < 0x100 else 0
            line[column] = (chr(BLANK + (kept | BRAILLE[x % 2][y % 4])), style)


def _write_names(
    cells: list[list[Span]], one: Series, across: Scale, down: Scale, ink: Ink, fine: tuple[int, int]
) -> None:
    """Write the names of points to their right, or to their left where there is no room; cut names that fit nowhere."""
    for x, y, name in zip(one.xs, one.ys, one.names or [""] * len(one.xs), strict=True):
        if has_place(x, across.log) and has_place(y, down.log):
            line, column = cells[round(down.at(y)) // fine[1]], round(across.at(x)) // fine[0]
            first = column + 1 if column + len(name) < len(line) else max(column - len(name), 0)
            for place, letter in enumerate(name[: len(line) - first], start=first):
                line[place] = (letter, ink[1] if fine != (1, 1) else "")


def _over(names: Sequence[tuple[str, int]], room: int) -> str:
    """One line with each name at its place, or as near to it as there is room."""
    line = ""
    for name, place in sorted(names, key=lambda each: each[1]):
        line = f"{line:<{max(min(place, room - len(name)), 0)}}{name} "
    return line[:room]


def _sample(one: Series, ink: Ink, colours: bool) -> str:
    if not colours:
        return ink[0] * 2
    return {"line": "━━", "dashed": "╍╍", "points": POINT}[one.style]


def _legend(names: Sequence[tuple[str, str, str]], width: int) -> list[Row]:
    """A sample and a name for every series, and the style of the sample; as many to a row as fit."""
    output: list[list[Span]] = [[]]
    used = 0
    for sample, name, style in names:
        wide = len(sample) + len(name) + 4
        if used and used + wide > width:
            output.append([])
            used = 0
        output[-1] += [(f" {sample} ", style), (f"{name} ", "")]
        used += wide
    return [tuple(row) for row in output]
