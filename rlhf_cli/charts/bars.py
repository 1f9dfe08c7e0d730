"""Draw grouped bars as SVG."""

import math
from collections.abc import Sequence
from typing import Final

from rlhf_cli.charts import frame
from rlhf_cli.charts.pictures import Bars, BarSeries
from rlhf_cli.charts.scale import Scale, extent, ticks
from rlhf_cli.charts.words import FONT, safe, shorten, width

FILLED: Final = 0.8
"""Share of a category's width that its bars take."""
SLANT: Final = math.sqrt(0.5)
"""Reach of a name turned by 45 degrees, across and down, per unit of its width."""
LONGEST: Final = 200.0
"""Room for a turned name."""


def draw(bars: Bars) -> str:
    """The bars as one <svg> element. Raises ValueError unless each series has one value a category."""
    values = [value for series in bars.series for value in series.values if math.isfinite(value)]
    y = ticks(*extent([0.0, *values]), frame.Y_TICKS, outside=True)
    left, right = frame.left_of(y), frame.WIDTH - frame.EDGE
    slot = (right - left) / max(len(bars.categories), 1)
    turned = any(width(name) > slot - 4 for name in bars.categories)
    if turned:  # the names end below their bars and begin further left
        left = max(left, frame.EDGE + SLANT * min(LONGEST, max(map(width, bars.categories))) - slot / 2)
        slot = (right - left) / len(bars.categories)
    parts, top = frame.head(bars.title, bars.y_label)
    down = Scale(y[0], y[-1], top + frame.HEIGHT, top)
    parts += frame.y_axis(y, down, left, right)
    starts = [left + slot * i for i in range(len(bars.categories))]
    each = slot * FILLED / max(len(bars.series), 1)
    for i, series in enumerate(bars.series):
        indent = slot * (1 - FILLED) / 2 + each * i
        parts += _bars(series, frame.colour(i), bars.categories, [start + indent for start in starts], each, down)
    draw_names = _turned_names if turned else _level_names
    names, bottom = draw_names(bars.categories, [start + slot / 2 for start in starts], slot, down.start)
    key, bottom = frame.legend([series.label for series in bars.series], ["bar"] * len(bars.series), bottom)
    return frame.document(bars.title, bottom + frame.EDGE, [*parts, *names, *key])


def _bars(
    series: BarSeries, kind: str, names: Sequence[str], places: Sequence[float], wide: float, down: Scale
) -> list[str]:
    parts = []
    for x, value, name in zip(places, series.values, names, strict=True):
        if math.isfinite(value):
            ends = sorted((down.at(0.0), down.at(value)))
            parts.append(
                f'<rect class="bar {kind}" x="{frame.number(x)}" y="{frame.number(ends[0])}" '
                f'width="{frame.number(wide)}" height="{frame.number(ends[1] - ends[0])}">'
                f"<title>{safe(f'{name}: {series.label} {value:.4g}'.replace(':  ', ': '))}</title></rect>"
            )
    return parts


def _level_names(names: Sequence[str], places: Sequence[float], slot: float, top: float) -> tuple[list[str], float]:
    parts = [frame.text("middle", x, top + frame.LINE, name) for x, name in zip(places, names, strict=True)]
    return parts, top + frame.LINE + 12


def _turned_names(names: Sequence[str], places: Sequence[float], slot: float, top: float) -> tuple[list[str], float]:
    """Names at 45 degrees, only some of them where there are too many."""
    every = math.ceil(frame.LINE / SLANT / slot)
    shown = [(x, shorten(name, LONGEST)) for x, name in zip(places, names, strict=True)][::every]
    parts = [frame.text("end", x + FONT / 3, top + FONT, name, turn=-45) for x, name in shown]
    return parts, top + FONT + SLANT * max(width(name) for _, name in shown) + 12
