"""The adaptive KL controller of Ziegler et al. 2019 (arXiv:1909.08593, section 2.2).

    e = clip(KL / target - 1, -0.2, 0.2),   beta <- beta (1 + e n / horizon)

n is the number of completions a step, so that a horizon of h * n completions is h steps: `horizon_steps`. The paper's
horizon of 10,000 completions with 32 a step would be 312 steps; a run of 40 would not move beta by 3 %.

KL is that of whole completions, in nats: the sum over a completion's tokens, averaged over completions.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from rlhf_cli.schedules.control import Control, held, relative_error
from rlhf_cli.settings import Settings

LARGEST_ERROR: Final = 0.2


class Adaptive(Settings):
    """Beta rises while the KL is above its target and falls while it is below, by a fixed share at most."""

    kind: Literal["adaptive"]
    start: float = Field(gt=0, allow_inf_nan=False)
    """Beta of the first step."""
    target: float = Field(gt=0, allow_inf_nan=False)
    """The KL to hold, nats a completion."""
    horizon_steps: float = Field(ge=1, allow_inf_nan=False)
    """A step changes beta by 20 % of 1 / horizon_steps at most."""
    lowest: float = Field(gt=0, allow_inf_nan=False)
    """Beta never falls below it."""
    highest: float = Field(gt=0, allow_inf_nan=False)
    """Beta never rises above it."""

    def begin(self) -> Control:
        """Before the first step."""
        return Control(self.start, 0.0)

    def observe(self, control: Control, kl: float) -> Control:
        """After a step whose completions had a mean KL of `kl` nats."""
        error = relative_error(kl, self.target, LARGEST_ERROR)
        return Control(held(control.beta * (1 + error / self.horizon_steps), self.lowest, self.highest), error)
