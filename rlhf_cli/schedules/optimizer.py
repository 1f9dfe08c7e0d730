"""AdamW's settings and the learning rate of each step."""

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from rlhf_cli.settings import Settings, as_tuple

Decay = Annotated[float, Field(ge=0, lt=1)]


class AdamW(Settings):
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) on the adapter's float32 weights."""

    kind: Literal["adamw"]
    lr: float = Field(gt=0, lt=1)
    """Peak learning rate."""
    schedule: Literal["constant", "linear", "cosine"]
    """Course of the learning rate after the warm-up: constant, or falling to zero."""
    warmup_steps: int = Field(ge=0)
    """Steps over which the learning rate rises to its peak."""
    betas: Annotated[tuple[Decay, Decay], BeforeValidator(as_tuple)]
    """Decay of the first and second moment."""
    eps: float = Field(gt=0, allow_inf_nan=False)
    """Added to the denominator."""
    weight_decay: float = Field(ge=0, allow_inf_nan=False)
    """Decoupled weight decay of all trained weights. It draws an adapter towards no change of the model, but the
    magnitudes of `model.lora.dora` towards 0."""
    max_grad_norm: float = Field(gt=0)
    """Gradients are scaled down to this norm; .inf (on the command line inf) switches clipping off."""

    def lr_at(self, step: int, total: int) -> float:
        """The learning rate of `step` in 0 .. total - 1.

        (step + 1) / warmup_steps of the peak during the warm-up, then the schedule over the remaining steps. It would
        reach zero at step `total`, one after the last, so that no step is wasted.
        """
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / (total - self.warmup_steps)
        falls = {"constant": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}
        return self.lr * falls[self.schedule]
