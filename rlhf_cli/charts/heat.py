"""Draw a heat map as SVG: each value is a number in a cell, and a larger value has a darker cell."""

import math
from typing import Final

from rlhf_cli.charts.frame import EDGE, LINE, WIDTH, document, head, number, text
from rlhf_cli.charts.pictures import HeatMap
from rlhf_cli.charts.scale import extent
from rlhf_cli.charts.words import FONT, shorten, width

CELL: Final = 44
"""Height of a cell."""
NARROWEST: Final = 60
"""Width of a cell that has room for a number of three decimals; a picture of many columns grows."""
FAINTEST: Final = 0.06
STRONGEST: Final = 0.5
"""The opacity of the shades: faint enough to read the number on the strongest one, on light and on dark paper."""


def draw(heat: HeatMap) -> str:
    """The heat map as one <svg> element. Raises ValueError unless there is one value for each column and row."""
    rows = [shorten(name, WIDTH / 4) for name in heat.rows]
    left = EDGE + max(map(width, [*rows, ""])) + 8
    wide = max((WIDTH - EDGE - left) / max(len(heat.columns), 1), NARROWEST)
    across = left + wide * max(len(heat.columns), 1) + EDGE
    low, high = extent([value for row in heat.values for value in row if math.isfinite(value)])
    parts, top = head(heat.title, heat.y_label, across)
    for r, (name, values) in enumerate(zip(rows, heat.values, strict=True)):
        y = top + CELL * r
        parts.append(text("end", left - 8, y + CELL / 2 + FONT / 3, name))
        for c, (_, value) in enumerate(zip(heat.columns, values, strict=True)):
            parts += _cell(value, (value - low) / (high - low), left + wide * c, y, wide)
    bottom = top + CELL * len(rows)
    if heat.marked is not None:
        r, c = heat.marked
        parts.append(_rectangle("chosen", left + wide * c, top + CELL * r, wide))
    for c, name in enumerate(heat.columns):
        parts.append(text("middle", left + wide * (c + 0.5), bottom + LINE, shorten(name, wide - 4)))
    centre = (left + across - EDGE) / 2
    parts.append(text("middle", centre, bottom + 2 * LINE, shorten(heat.x_label, 2 * (across - EDGE - centre))))
    return document(heat.title, bottom + 2 * LINE + EDGE, parts, across)


def _cell(value: float, share: float, x: float, y: float, wide: float) -> list[str]:
    place = x + wide / 2, y + CELL / 2 + FONT / 3
    if not math.isfinite(value):
        return [text("middle", *place, "–")]
    opacity = FAINTEST + (STRONGEST - FAINTEST) * share
    shown = f"{value:z.3f}".replace("-", "−")
    return [_rectangle("cell c0", x, y, wide, opacity), text("middle", *place, shorten(shown, wide - 4))]


def _rectangle(kind: str, x: float, y: float, wide: float, opacity: float | None = None) -> str:
    """A cell, a little smaller than its place so that neighbours stay apart."""
    shade = "" if opacity is None else f' fill-opacity="{opacity:.2f}"'
    return (
        f'<rect class="{kind}" x="{number(x + 2)}" y="{number(y + 2)}" width="{number(wide - 4)}" '
        f'height="{number(CELL - 4)}" rx="4"{shade}/>'
    )
