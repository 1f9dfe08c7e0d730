"""The distance of the sampler's probabilities from the trainer's, and the weights that correct for it.

Both are passes of the same policy, but a cache, a batch or a number format may round differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE: Final = 0.01
"""Nats per completion: below it the sampler's log-probabilities are used uncorrected."""
LARGEST_WEIGHT: Final = 2.0
WARN_BELOW: Final = 0.8
"""Effective share of the samples that calls for a warning."""
STOP_BELOW: Final = 0.5
"""Effective share of the samples that ends the run."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Statistics of the log-weights log pi_trainer - log pi_sampler of whole completions."""

    gap: float
    """Largest absolute log-weight, nats."""
    mean: float
    """Mean log-weight."""
    deviation: float
    """Standard deviation of the log-weights."""
    effective_share: float
    """(sum w)^2 / (N sum w^2) of the unclipped weights: the effective share of the samples (Kish 1965)."""


def measure_mismatch(log_weights: Tensor) -> Mismatch:
    """Summarise log pi_trainer - log pi_sampler of each completion, [B] in nats."""
    wide = log_weights.double()
    scaled = (wide - wide.max()).exp()  # the share does not depend on a common factor
    share = scaled.sum() ** 2 / (len(wide) * scaled.square().sum())
    return Mismatch(float(wide.abs().max()), float(wide.mean()), float(wide.std(correction=0)), float(share))


def measure_cut(log_weights: Tensor) -> float:
    """The share of the weights' sum that `sequence_weights` cuts away: the bias that it costs; [B] in nats."""
    weights = log_weights.double().exp()
    return float((weights - LARGEST_WEIGHT).clamp(min=0).sum() / weights.sum())


def sequence_weights(log_weights: Tensor) -> Tensor:
    """min(exp(log-weight), 2) for each completion, [B].

    One weight per completion: weights per token would leave most of the bias. The weights are never normalised by
    their sum, which would bias the gradient (truncated importance sampling: Ionides 2008).
    """
    return log_weights.exp().clamp(max=LARGEST_WEIGHT)
