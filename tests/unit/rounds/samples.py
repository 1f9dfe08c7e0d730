"""Measured evaluations made by hand."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_cli.rounds.truth import Truth


def truth(step: int, kl: float, proxy: float, true: float, spread: Sequence[float] = (-0.1, 0.0, 0.1)) -> Truth:
    """An evaluation whose prompts differ by `spread`."""
    numbers = list(range(len(spread)))
    return Truth(step, numbers, [kl] * len(spread), [proxy + s for s in spread], [true + s for s in spread])
