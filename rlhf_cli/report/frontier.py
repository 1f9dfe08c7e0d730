"""Reward against KL: the points of a sweep beside the optimum's curve and the best of n."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rlhf_cli.charts.pictures import Chart, Series, Style
from rlhf_cli.evaluation.intervals import Estimate
from rlhf_cli.evaluation.oracle import BestOf, CurvePoint
from rlhf_cli.sweep.answer import Answer, Point

FEWEST_SEEDS = 3
"""The interval of two seeds is 13 standard errors to either side: it would leave no room for anything else."""


def frontier(found: Answer) -> Chart:
    """The chart; every point has its number in the answer."""
    curve = found.oracle.curve if found.oracle else ()
    seen = [point for point in curve if point.covered]
    unseen = seen[-1:] + [point for point in curve if not point.covered]
    recommended = [point for point in found.points if point.number == found.recommended]
    rest = [point for point in found.points if point.number != found.recommended]
    shown = (
        _reachable("the optimum", seen, "line"),
        _reachable("the optimum, from too few samples", unseen, "dashed"),
        _reachable("best of n", found.oracle.best_of if found.oracle else (), "points"),
        _points("recommended", recommended),
        _points("Pareto front", [point for point in rest if point.pareto]),
        _points("other points", [point for point in rest if not point.pareto]),
    )
    series = tuple(one for one in shown if len(one.xs) > (1 if one.style != "points" else 0))
    return Chart("Reward against KL to the reference", "KL, nats", "reward", series)


def has_bars(point: Point) -> bool:
    """Whether a picture shows its intervals."""
    return point.over == "prompts" or point.reward.count >= FEWEST_SEEDS


def _reachable(label: str, points: Sequence[BestOf | CurvePoint], style: Style) -> Series:
    return Series(label, [point.kl for point in points], [point.reward for point in points], style=style)


def _points(label: str, points: Sequence[Point]) -> Series:
    def ends(values: Sequence[Estimate]) -> tuple[list[float], list[float]]:
        drawn = [has_bars(point) for point in points]
        return (
            [value.low if bars else math.nan for value, bars in zip(values, drawn, strict=True)],
            [value.high if bars else math.nan for value, bars in zip(values, drawn, strict=True)],
        )

    rewards, kls = [point.reward for point in points], [point.kl for point in points]
    (low, high), (x_low, x_high) = ends(rewards), ends(kls)
    return Series(
        label,
        [kl.mean for kl in kls],
        [reward.mean for reward in rewards],
        low,
        high,
        "points",
        [max(end, 0.0) for end in x_low],
        x_high,
        [str(point.number) for point in points],
    )
