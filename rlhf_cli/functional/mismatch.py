"""Sampler against trainer: two passes of one policy that may round differently, and what is done about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE: Final = 0.01
"""Nats of a whole completion up to which the sampler's word is taken for the trainer's."""
LARGEST_WEIGHT: Final = 2.0
WARN_BELOW: Final = 0.8
STOP_BELOW: Final = 0.5


@dataclass(frozen=True, slots=True)
class Mismatch:
    """How far the trainer's probabilities of whole completions are from the sampler's."""

    gap: float
    """Largest absolute log-weight, nats."""
    mean: float
    """Mean log-weight."""
    deviation: float
    """Standard deviation of the log-weights."""
    effective_share: float
    """(sum w)^2 / (N sum w^2) of the unclipped weights: the share of the samples that is left (Kish 1965)."""


def mismatch(log_weights: Tensor) -> Mismatch:
    """Of log pi_trainer - log pi_sampler of each completion, [B] in nats."""
    wide = log_weights.double()
    scaled = (wide - wide.max()).exp()  # the share does not depend on a common factor
    share = scaled.sum() ** 2 / (len(wide) * scaled.square().sum())
    return Mismatch(float(wide.abs().max()), float(wide.mean()), float(wide.std(correction=0)), float(share))


def sequence_weights(log_weights: Tensor) -> Tensor:
    """min(exp(log-weight), 2) for each completion, [B].

    One weight a completion: weights for single tokens leave most of the bias where it is. Their sum is never divided
    by, which would bias the gradient (truncated importance sampling: Ionides 2008).
    """
    return log_weights.exp().clamp(max=LARGEST_WEIGHT)
