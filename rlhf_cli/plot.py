"""Points on a canvas of characters: for a look in a terminal, a log or a mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

Point = tuple[float, float]


def plot(curves: Mapping[str, Sequence[Point]], x: str, y: str, width: int = 60, height: int = 14) -> str:
    """The curves, each drawn with the mark that is its key, a later one over an earlier; axes `x` and `y` with numbers.

    All points are finite, and there is at least one.
    """
    points = [point for curve in curves.values() for point in curve]
    left, right = _ends([point[0] for point in points])
    bottom, top = _ends([point[1] for point in points])
    canvas = [[" "] * width for _ in range(height)]
    for mark, curve in curves.items():
        for a, b in curve:
            canvas[height - 1 - _place(b, bottom, top, height)][_place(a, left, right, width)] = mark
    middle = height // 2
    labels = {0: top, middle: top - (top - bottom) * middle / (height - 1), height - 1: bottom}
    shown = {row: _number(value, top - bottom) for row, value in labels.items()}
    margin = max(map(len, [*shown.values(), y]))
    lines = [f"{y:>{margin}}"]
    lines += [f"{shown.get(i, ''):>{margin}} │{''.join(row)}".rstrip() for i, row in enumerate(canvas)]
    first, last = _number(left, right - left), _number(right, right - left)
    lines.append(f"{'':>{margin}} └{'─' * width}")
    lines.append(f"{'':>{margin}}  {first}{x.center(width - len(first) - len(last))}{last}")
    return "\n".join(lines)


def joined(curve: Sequence[Point], parts: int = 8) -> list[Point]:
    """The points with straight lines between them, each line as `parts` points."""
    lines = [
        (a + (c - a) * i / parts, b + (d - b) * i / parts) for (a, b), (c, d) in pairwise(curve) for i in range(parts)
    ]
    return [*lines, *curve[-1:]]


def _number(value: float, span: float) -> str:
    """Three digits; what is rounding beside the axis is 0."""
    return f"{value:.3g}" if abs(value) > 1e-9 * span else "0"


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Smallest and largest, apart even where all are equal."""
    low, high = min(values), max(values)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _place(value: float, low: float, high: float, cells: int) -> int:
    return round((value - low) / (high - low) * (cells - 1))
