"""The optimum and the frontier of reward against KL, from the reference's completions alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from rlhf_cli.evaluation.best_of_n import best_of_n_kl, expected_best
from rlhf_cli.evaluation.optimum import COVERED, FrontierPoint, frontier, share_covered
from rlhf_cli.evaluation.tilt import tilt

CURVE: Final = 60
"""Points of the frontier's curve."""


@dataclass(frozen=True, slots=True)
class BestOf:
    """Best of n: means over prompts."""

    n: int
    reward: float
    kl: float
    """KL(best of n || reference), nats."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A point of the frontier."""

    kl: float
    reward: float
    covered: bool
    """Whether there are enough samples to see the optimum at this KL."""


@dataclass(frozen=True, slots=True)
class Oracle:
    """The best that training could reach, estimated from completions of the reference."""

    prompts: int
    samples: int
    """Completions of each prompt."""
    temperature: float
    beta: float
    """The beta of the run: at its end, or the first beta of a controller."""
    points: tuple[FrontierPoint, ...]
    """A point for each beta that was asked for."""
    best_of: tuple[BestOf, ...]
    """n = 1, 2, 4, ..."""
    curve: tuple[CurvePoint, ...]
    """The frontier, from the reference on; KL rises."""


def oracle(rewards: Sequence[Sequence[float]], betas: Sequence[float], beta: float, temperature: float) -> Oracle:
    """Estimate optimum, best of n and frontier from the reference's rewards: one list a prompt, of equal lengths."""
    samples = len(rewards[0])
    return Oracle(
        prompts=len(rewards),
        samples=samples,
        temperature=temperature,
        beta=beta,
        points=tuple(frontier(rewards, one) for one in betas),
        best_of=tuple(_best_of(rewards, 2**power) for power in range(samples.bit_length())),
        curve=tuple(_curve(rewards)),
    )


def _best_of(rewards: Sequence[Sequence[float]], n: int) -> BestOf:
    return BestOf(n, fmean(expected_best(r, n) for r in rewards), fmean(best_of_n_kl(r, n) for r in rewards))


def _curve(rewards: Sequence[Sequence[float]]) -> list[CurvePoint]:
    """The frontier, from a beta that leaves the reference as it is to one that keeps only the best completions."""
    spread = (max(map(max, rewards)) - min(map(min, rewards))) or 1.0
    points = []
    for i in range(CURVE):
        beta = spread * 10 ** (1 - 4 * i / (CURVE - 1))
        tilts = [tilt(values, beta) for values in rewards]
        covered = share_covered(rewards, beta) >= COVERED
        points.append(CurvePoint(fmean(one.kl for one in tilts), fmean(one.reward for one in tilts), covered))
    return points
