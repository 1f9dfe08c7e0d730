"""A proportional-integral controller on the logarithm of beta, which holds a KL budget.

    log beta <- log beta + proportional (e - e_before) + integral e,   e = clip(KL / target - 1, -1, 1)

This is the velocity form of a PI controller (Astrom and Hagglund 1995, PID Controllers, section 3.5). The integral term
alone would be Ziegler's controller without its clip at 0.2: beta falls while the KL is below the budget, and so the KL
overshoots. The proportional term raises beta as soon as the KL climbs.
"""

import math
from typing import Final, Literal

from pydantic import Field

from rlhf_cli.schedules.controller import Controller, ControllerState

LARGEST_ERROR: Final = 1.0


class Target(Controller):
    """Move beta by the KL's distance from its budget and by the change of that distance."""

    kind: Literal["target"]
    proportional: float = Field(ge=0, le=10)
    """Proportional gain: the rise of log beta for each unit by which the relative error of the KL grows."""
    integral: float = Field(gt=0, le=1)
    """Integral gain: the rise of log beta per step for each unit of the KL's relative error."""

    def begin(self) -> ControllerState:
        """The state before the first step: the policy is still the reference, so the KL is zero."""
        return ControllerState(self.start, -LARGEST_ERROR)

    def observe(self, state: ControllerState, kl: float) -> ControllerState:
        """The state after a step whose completions had a mean KL of `kl` nats."""
        error = self.error(kl, LARGEST_ERROR)
        change = self.proportional * (error - state.error) + self.integral * error
        return ControllerState(self.bounded(state.beta * math.exp(change)), error)
