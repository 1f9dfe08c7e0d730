"""A controller that holds a KL budget: proportional and integral, on the logarithm of beta.

    log beta <- log beta + proportional (e - e_before) + integral e,   e = clip(KL / target - 1, -1, 1)

the velocity form of a PI controller (Astrom and Hagglund 1995, PID Controllers, section 3.5). The integral alone would
be Ziegler's controller without its clip at 0.2: beta goes on falling for as long as the KL is below the budget, and
overshoots when it arrives. The proportional part raises beta already while the KL climbs.
"""

from __future__ import annotations

import math
from typing import Final, Literal

from pydantic import Field

from rlhf_cli.schedules.control import Control, held, relative_error
from rlhf_cli.settings import Settings

LARGEST_ERROR: Final = 1.0


class Target(Settings):
    """Beta follows the KL's distance from its budget, and how fast that changes."""

    kind: Literal["target"]
    start: float = Field(gt=0, allow_inf_nan=False)
    """Beta of the first step."""
    target: float = Field(gt=0, allow_inf_nan=False)
    """The KL to hold, nats a completion."""
    proportional: float = Field(ge=0, le=10)
    """How much log beta rises with the relative error's change."""
    integral: float = Field(gt=0, le=1)
    """How much log beta rises a step for each unit of relative error."""
    lowest: float = Field(gt=0, allow_inf_nan=False)
    """Beta never falls below it."""
    highest: float = Field(gt=0, allow_inf_nan=False)
    """Beta never rises above it."""

    def begin(self) -> Control:
        """Before the first step; a policy that is still the reference has a KL of zero."""
        return Control(self.start, -LARGEST_ERROR)

    def observe(self, control: Control, kl: float) -> Control:
        """After a step whose completions had a mean KL of `kl` nats."""
        error = relative_error(kl, self.target, LARGEST_ERROR)
        change = self.proportional * (error - control.error) + self.integral * error
        return Control(held(control.beta * math.exp(change), self.lowest, self.highest), error)
