"""The base of both controllers, whose beta follows the KL, and their state."""

from dataclasses import dataclass

from pydantic import Field

from rlhf_cli.settings import Settings


@dataclass(frozen=True, slots=True)
class ControllerState:
    """The state of a controller between two steps. Part of every checkpoint."""

    beta: float
    """Beta of the next step."""
    error: float
    """KL / target - 1 of the last step, after clipping."""


class Controller(Settings):
    """A beta that follows the KL, from a first value and within bounds."""

    kind: str
    start: float = Field(gt=0, allow_inf_nan=False)
    """Beta of the first step."""
    target: float = Field(gt=0, allow_inf_nan=False)
    """The KL to hold, nats per completion."""
    lowest: float = Field(gt=0, allow_inf_nan=False)
    """Beta never falls below it."""
    highest: float = Field(gt=0, allow_inf_nan=False)
    """Beta never rises above it."""

    def error(self, kl: float, largest: float) -> float:
        """KL / target - 1, clipped to [-largest, largest]."""
        return min(max(kl / self.target - 1, -largest), largest)

    def bounded(self, beta: float) -> float:
        """Keep beta within its bounds: with a target out of reach it would run away, and be as slow to return."""
        return min(max(beta, self.lowest), self.highest)
