"""What a controller of beta carries from one step to the next. Part of every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Control:
    """The beta of the next step, and the last error the controller saw."""

    beta: float
    error: float = 0.0
    """KL / target - 1, after clipping."""


def relative_error(kl: float, target: float, largest: float) -> float:
    """KL / target - 1, no further from zero than `largest`."""
    return min(max(kl / target - 1, -largest), largest)
