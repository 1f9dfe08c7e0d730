"""Reward against KL: the optimum's curve and the best of n, and the points of a sweep among them.

A colour means one thing on the whole page of a sweep: what can be reached, the recommended point, the Pareto front, the
other points. The colours that are left over tell curves of points apart.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from rlhf_cli.charts.pictures import Chart, Series, Style
from rlhf_cli.evaluation.evaluation import nats
from rlhf_cli.evaluation.intervals import Estimate
from rlhf_cli.evaluation.oracle import BestOf, CurvePoint, Oracle
from rlhf_cli.report.series import with_intervals
from rlhf_cli.sweep.points import Point

REACHABLE: Final = 0
RECOMMENDED: Final = 2
PARETO: Final = 6
OTHERS: Final = 5
LEFT_OVER: Final = (1, 3, 4)
FEWEST_SEEDS: Final = 3
"""The interval of two seeds is 13 standard errors to either side: it would leave no room for anything else."""


def frontier(oracle: Oracle | None, points: Sequence[Point] = (), recommended: int | None = None) -> Chart:
    """The chart. Every point of the sweep is shown by its number; `recommended` is the number of a point."""
    curve = oracle.curve if oracle else ()
    trusted = [point for point in curve if point.covered]
    doubtful = trusted[-1:] + [point for point in curve if not point.covered]
    rest = [point for point in points if point.number != recommended]
    every = (
        _reachable("the optimum", trusted, "line"),
        _reachable("the optimum, from too few samples", doubtful, "dashed"),
        _reachable("best of n", oracle.best_of if oracle else (), "points"),
        _points("recommended", RECOMMENDED, [point for point in points if point.number == recommended]),
        _points("Pareto front", PARETO, [point for point in rest if point.pareto]),
        _points("other points", OTHERS, [point for point in rest if not point.pareto]),
    )
    series = tuple(each for each in every if len(each.xs) > (0 if each.style == "points" else 1))
    return Chart("Reward against KL to the reference", "KL, nats", "reward", series)


def has_bars(point: Point) -> bool:
    """Whether the chart shows the point's intervals."""
    return point.over == "prompts" or point.reward.count >= FEWEST_SEEDS


def _reachable(label: str, points: Sequence[BestOf | CurvePoint], style: Style) -> Series:
    kls, rewards = [nats(point.kl) for point in points], [point.reward for point in points]
    return Series(label, kls, rewards, style=style, colour=REACHABLE)


def _points(label: str, colour: int, points: Sequence[Point]) -> Series:
    def shown(point: Point, value: Estimate) -> Estimate:
        return value if has_bars(point) else replace(value, half_width=math.nan)

    rewards, kls = [shown(p, p.reward) for p in points], [shown(p, p.kl) for p in points]
    return with_intervals(
        label,
        [nats(kl.mean) for kl in kls],
        rewards,
        style="points",
        x_low=[max(nats(kl.low), 0.0) for kl in kls],
        x_high=[nats(kl.high) for kl in kls],
        names=[str(point.number) for point in points],
        colour=colour,
    )
