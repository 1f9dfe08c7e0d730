"""From advantages to new weights: one gradient over the whole rollout, a microbatch at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import torch
from torch import nn

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.engine import Engine
from rlhf_cli.errors import EXIT_NONFINITE, UserError
from rlhf_cli.functional.logprobs import token_logprobs
from rlhf_cli.pipeline.scoring import microbatches, unpacked
from rlhf_cli.types import Advantages, Minibatch


def accumulate(
    advantages: Advantages, algorithm: Algorithm, engine: Engine, microbatch_size: int, tick: Callable[[], None]
) -> dict[str, float]:
    """Add the gradient of the loss to the adapter's weights; returns the loss and the sampler's gap to this pass.

    `sampler/gap` is the largest difference, over completions, between the summed log-probabilities of this pass and
    those the tokens were sampled with, in nats. It should be rounding error.
    """
    rollout = advantages.scored.rollout
    totals, gap = Counter[str](), 0.0
    for rows in microbatches(len(rollout.batch), microbatch_size):
        keep = rollout.completion_mask[rows]
        hidden = engine.hidden(rollout, rows)
        packed = token_logprobs(hidden, rollout.tokens[rows][keep], engine.head, rollout.temperature)
        logprobs = unpacked(packed, keep)
        minibatch = Minibatch(advantages.advantages[rows], keep, len(rollout.batch))
        result = algorithm.loss(minibatch, logprobs)
        result.loss.backward()
        totals.update({"loss": float(result.loss.detach()), **result.metrics})
        gap = max(gap, float((logprobs.detach() - rollout.logprobs[rows]).sum(1).abs().max()))
        tick()
    return {**totals, "sampler/gap": gap}


def apply(
    parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, lr: float, max_grad_norm: float
) -> dict[str, float]:
    """Clip the gradient to `max_grad_norm`, take one step at `lr`, clear it; returns the norm before clipping.

    Raises UserError (exit 7) for a gradient that is not finite; the weights are untouched then.
    """
    norm = float(nn.utils.clip_grad_norm_(parameters.values(), max_grad_norm))
    if not math.isfinite(norm):
        optimizer.zero_grad()
        raise UserError(
            "the gradient is not finite, so the step was not taken",
            where="optimizer",
            fix="resume with a lower one: optimizer.lr=... resume_allow=[optimizer.lr]",
            exit_code=EXIT_NONFINITE,
        )
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad()
    return {"grad_norm": norm, "lr": lr}
