"""Values of a picture where the pointer rests: <title> elements, which browsers show without a script."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from rlhf_cli.charts.frame import number
from rlhf_cli.charts.pictures import Series
from rlhf_cli.charts.scale import Scale
from rlhf_cli.charts.series import Point
from rlhf_cli.charts.words import safe


def strips(
    x_label: str, drawn: Sequence[tuple[Series, Sequence[Sequence[Point]]]], across: Scale, down: Scale
) -> list[str]:
    """An unseen strip over the whole height for every x of a line, with the values that all series have there.

    A strip reaches half way to its neighbours, so that nobody has to find a thin line.
    """
    said: dict[float, list[str]] = defaultdict(list)
    lines = {p.x for one, runs in drawn if one.style != "points" for run in runs for p in run}
    for one, runs in drawn:
        for p in (p for run in runs for p in run if p.x in lines):
            said[p.x].append(value_of(p, one.label))
    xs = sorted(said)
    middles = [(across.at(a) + across.at(b)) / 2 for a, b in pairwise(xs)]
    edges = [across.start, *middles, across.end]
    top, height = min(down.start, down.end), abs(down.start - down.end)
    return [
        f'<rect class="strip" x="{number(left)}" y="{number(top)}" width="{number(right - left)}" '
        f'height="{number(height)}">{title(x_label, x, said[x])}</rect>'
        for x, (left, right) in zip(xs, pairwise(edges), strict=False)
    ]


def title(x_label: str, x: float, values: Sequence[str]) -> str:
    """The <title> of x with values below it."""
    return f"<title>{safe(f'{x_label} {x:.6g}'.strip())}\n" + "\n".join(map(safe, values)) + "</title>"


def value_of(point: Point, name: str) -> str:
    """The name and the value of a point, with its interval."""
    value = f"{name} {point.y:.4g}".strip()
    return value if point.low == point.high else f"{value} [{point.low:.4g}, {point.high:.4g}]"
