"""What a controller of beta carries from one step to the next, and what both controllers compute."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Control:
    """Part of every checkpoint."""

    beta: float
    """Of the next step."""
    error: float
    """KL / target - 1 of the last step, after clipping."""


def relative_error(kl: float, target: float, largest: float) -> float:
    """KL / target - 1, no further from zero than `largest`."""
    return min(max(kl / target - 1, -largest), largest)


def held(beta: float, lowest: float, highest: float) -> float:
    """Beta within its bounds: where a target cannot be reached it would run away, and take as long to return."""
    return min(max(beta, lowest), highest)
