"""The style, elements, title, axes and legend that every SVG picture shares."""

from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Final

from rlhf_cli.charts.scale import Scale, labels
from rlhf_cli.charts.words import FONT, safe, shorten, width, wrap

WIDTH: Final = 480
"""The width of a picture; a heat map of many columns is wider."""
HEIGHT: Final = 240
"""The height of a plot; title, axes and legend add to it."""
COLOURS: Final = 7
LINE: Final = 22
"""Height of a line of text."""
EDGE: Final = 12
"""Empty space at every edge."""
SWATCH: Final = 26
"""Width of the sample of a series in the legend."""
Y_TICKS: Final = 5

# Okabe and Ito 2008; their yellow only on dark paper, since white paper swallows it, and there the others are lighter.
STYLE: Final = "\n" + files("rlhf_cli.charts").joinpath("chart.css").read_text(encoding="utf-8")


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight line of class `kind`."""
    return f'<line class="{kind}" x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"/>'


def text(kind: str, x: float, y: float, words: str, turn: int = 0) -> str:
    """A text of class `kind` with its baseline at y, turned by `turn` degrees."""
    turned = f' transform="rotate({turn} {number(x)} {number(y)})"' if turn else ""
    return f'<text class="{kind}" x="{number(x)}" y="{number(y)}"{turned}>{safe(words)}</text>'


def number(value: float) -> str:
    """A coordinate, to a tenth of a unit."""
    return f"{value:.1f}".removesuffix(".0")


def colour(i: int) -> str:
    """The class of series `i`."""
    return f"c{i % COLOURS}"


def document(title: str, down: float, parts: Iterable[str], across: float = WIDTH) -> str:
    """The <svg> element. It has a shape but no size, and an aria-label for readers who cannot see it."""
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" aria-label="{safe(title)}" '
            f'viewBox="0 0 {number(across)} {number(down)}">',
            f"<title>{safe(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="paper" width="{number(across)}" height="{number(down)}" rx="6"/>',
            *parts,
            "</svg>",
        )
    )


def head(title: str, y_label: str, across: float = WIDTH) -> tuple[list[str], float]:
    """The title, the name of y below it, and the y coordinate where they end."""
    room = across - 2 * EDGE
    rows = [("title", row) for row in wrap(title, room * 0.95)]  # bold letters are wider
    rows += [("", shorten(y_label, room))] if y_label else []
    parts = [text(kind, EDGE, EDGE + FONT + LINE * i, row) for i, (kind, row) in enumerate(rows)]
    return parts, EDGE + LINE * len(rows) + FONT


def left_of(ticks: Sequence[float], log: bool = False) -> float:
    """The x coordinate where the plot begins: right of the names of its y ticks."""
    return EDGE + max(map(width, labels(ticks, log))) + 8


def y_axis(ticks: Sequence[float], down: Scale, left: float, right: float) -> list[str]:
    """A line across the plot and a name for every tick; zero stands out."""
    parts = []
    for value, name in zip(ticks, labels(ticks, down.log), strict=True):
        place = down.at(value)
        parts.append(line("axis" if value == 0 else "grid", left, place, right, place))
        parts.append(text("end", left - 8, place + FONT / 3, name))
    return parts


def legend(
    names: Sequence[str], kinds: Sequence[str], top: float, colours: Sequence[int] | None = None
) -> tuple[list[str], float]:
    """A sample and a name for every series with a name, in rows from `top`; and the y coordinate where they end.

    `colours` are the numbers of their colours, by default their places.
    """
    parts: list[str] = []
    x, y = float(EDGE), top
    numbers = range(len(names)) if colours is None else colours
    named = [(i, name, kind) for i, name, kind in zip(numbers, names, kinds, strict=True) if name]
    for i, name, kind in named:
        name = shorten(name, WIDTH - 2 * EDGE - SWATCH - 8)
        wide = SWATCH + 8 + width(name)
        if x > EDGE and x + wide > WIDTH - EDGE:
            x, y = float(EDGE), y + LINE
        parts += [_sample(kind, i, x, y + LINE / 2), text("", x + SWATCH + 8, y + LINE / 2 + FONT / 3, name)]
        x += wide + 20
    return parts, y + LINE if named else top


def _sample(kind: str, i: int, x: float, y: float) -> str:
    if kind == "points":
        return f'<circle class="points {colour(i)}" cx="{number(x + SWATCH / 2)}" cy="{number(y)}" r="5"/>'
    if kind == "bar":
        return f'<rect class="bar {colour(i)}" x="{number(x + 6)}" y="{number(y - 7)}" width="14" height="14"/>'
    return line(f"{kind} {colour(i)}", x, y, x + SWATCH, y)
