"""The state of a beta that follows the KL, and the arithmetic of both controllers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ControllerState:
    """The state of a controller between two steps. Part of every checkpoint."""

    beta: float
    """Beta of the next step."""
    error: float
    """KL / target - 1 of the last step, after clipping."""


def relative_error(kl: float, target: float, largest: float) -> float:
    """KL / target - 1, clipped to [-largest, largest]."""
    return min(max(kl / target - 1, -largest), largest)


def clamp(beta: float, lowest: float, highest: float) -> float:
    """Keep beta within its bounds: with a target out of reach it would run away, and be as slow to return."""
    return min(max(beta, lowest), highest)
