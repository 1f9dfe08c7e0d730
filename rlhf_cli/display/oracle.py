"""What training could reach: the optimum at each beta, and the frontier beside the best of n; on stdout."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from rlhf_cli.charts.pictures import Chart, Series, Style
from rlhf_cli.charts.terminal import rows
from rlhf_cli.evaluation.oracle import BestOf, CurvePoint, Oracle


def show_oracle(found: Oracle) -> None:
    """The optimum at each beta, the frontier beside best-of-n, and best-of-n in figures; on stdout."""
    console = Console(highlight=False)
    table = Table(
        title=f"The optimum, from {found.prompts} prompts x {found.samples} completions of the reference "
        f"at T = {found.temperature:g}",
        title_justify="left",
        caption=Text(
            "Reward and KL are the optimum's. An estimate, biased upward as a yardstick:\n"
            "J* is low in expectation, and modes that no sample shows are invisible."
        ),
        caption_justify="left",
    )
    for name in ("beta", "J_ref", "J*", "reward", "KL, nats", "effective samples", "trust it"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in found.points:
        figures = (f"{round(v, 3) + 0.0:.3f}" for v in (point.reference, point.optimum, point.reward, point.kl))
        effective = f"{point.effective:.1f} ({point.least_effective:.1f} or more)"
        own = "bold" if math.isclose(point.beta, found.beta) else ""
        table.add_row(f"{point.beta:g}", *figures, effective, "no" if point.reason else "yes", style=own)
    console.print(table)
    for reason in dict.fromkeys(point.reason for point in found.points if point.reason):
        betas = ", ".join(f"{point.beta:g}" for point in found.points if point.reason == reason)
        console.print(f"beta {betas}: {reason}", markup=False)
    console.print()
    colours = console.color_system is not None and not console.no_color
    for row in rows(_frontier(found), min(console.width, 80) - 1, colours, height=14):
        console.print(Text.assemble(*row), soft_wrap=True)
    console.print(_best_of(found))


def _frontier(found: Oracle) -> Chart:
    """The most reward there is at each KL, beside what the best of n completions gives."""
    seen = [point for point in found.curve if point.covered]
    unseen = seen[-1:] + [point for point in found.curve if not point.covered]

    def series(label: str, points: Sequence[BestOf | CurvePoint], style: Style) -> Series:
        return Series(label, [point.kl for point in points], [point.reward for point in points], style=style)

    shown = (
        series("the optimum", seen, "line"),
        series("the optimum, from too few samples", unseen, "dashed"),
        series("best of n", found.best_of, "points"),
    )
    return Chart("Reward against KL to the reference", "KL, nats", "reward", tuple(s for s in shown if s.xs))


def _best_of(found: Oracle) -> RenderableType:
    table = Table(title="\nBest of n", title_justify="left")
    for name in ("n", "reward", "KL, nats", f"reward - {found.beta:g}·KL"):
        table.add_column(name, justify="right")
    for one in found.best_of:
        values = (one.reward, one.kl, one.reward - found.beta * one.kl)
        table.add_row(str(one.n), *(f"{round(value, 3) + 0.0:.3f}" for value in values))
    return table
