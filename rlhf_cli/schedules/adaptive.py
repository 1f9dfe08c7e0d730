"""The adaptive KL controller of Ziegler et al. 2019 (arXiv:1909.08593, section 2.2).

    e = clip(KL / target - 1, -0.2, 0.2),   beta <- beta (1 + e n / horizon)

n is the number of completions per step, so a horizon of h * n completions is h steps: `horizon_steps`. With 32
completions per step the paper's horizon of 10,000 would be 312 steps, and a run of 40 would not move beta by 3 %.

KL is the sum over a completion's tokens, averaged over completions, in nats.
"""

from typing import Final, Literal

from pydantic import Field

from rlhf_cli.schedules.controller import Controller, ControllerState

LARGEST_ERROR: Final = 0.2


class Adaptive(Controller):
    """Raise beta while the KL is above its target and lower it while below, by a limited share per step."""

    kind: Literal["adaptive"]
    horizon_steps: float = Field(ge=1, allow_inf_nan=False)
    """Slowness of the controller: a step changes beta by at most 20 % / horizon_steps."""

    def begin(self) -> ControllerState:
        """The state before the first step."""
        return ControllerState(self.start, 0.0)

    def observe(self, state: ControllerState, kl: float) -> ControllerState:
        """The state after a step whose completions had a mean KL of `kl` nats."""
        error = self.error(kl, LARGEST_ERROR)
        return ControllerState(self.bounded(state.beta * (1 + error / self.horizon_steps)), error)
