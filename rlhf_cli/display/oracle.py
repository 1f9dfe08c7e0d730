"""What training could reach: the optimum at each beta, and the frontier beside the best of n; on stdout."""

from __future__ import annotations

import math

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from rlhf_cli.display.pictures import print_picture
from rlhf_cli.evaluation.oracle import Oracle
from rlhf_cli.report.frontier import frontier


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
    print_picture(frontier(found), console)
    console.print(_best_of(found))


def _best_of(found: Oracle) -> RenderableType:
    table = Table(title="\nBest of n", title_justify="left")
    for name in ("n", "reward", "KL, nats", f"reward - {found.beta:g}·KL"):
        table.add_column(name, justify="right")
    for one in found.best_of:
        values = (one.reward, one.kl, one.reward - found.beta * one.kl)
        table.add_row(str(one.n), *(f"{round(value, 3) + 0.0:.3f}" for value in values))
    return table
