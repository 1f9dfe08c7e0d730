"""GRPO, group relative policy optimisation (Shao et al. 2024, arXiv:2402.03300, section 4.1), and its descendants.

    A_i = (R_i - mean_j R_j) / std_j R_j          over the G completions of one prompt, R_i = r_i - beta sum_t k1_it
    loss = - mean_it min( ratio_it A_i, clip(ratio_it, 1 - clip_range, 1 + clip_range_high) A_i )

    scale_by_std: false, aggregation: constant           Dr. GRPO (Liu et al. 2025, arXiv:2503.20783)
    clip_range_high: 0.28, aggregation: token_mean       DAPO's clip-higher and loss (Yu et al. 2025, arXiv:2503.14476)

The mean holds the completion itself: it is (G - 1) / G of RLOO's advantage. The standard deviation (over G - 1) makes
every prompt's group weigh alike, whatever its scores are worth; with k1 in the reward that leaves the optimum of each
prompt where it is, but where prompts share parameters it weighs them differently from J.

Deviations from the paper: the KL is part of the return (the paper has k3 as a loss, whose gradient is not that of the
KL: see `placement`), and 1e-4 is added to the standard deviation, so that a group whose returns are all but equal is
not blown up to unit size.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import Field

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.placement import SHRINKS, Placement
from rlhf_cli.functional.losses import Aggregation, clipped_surrogate
from rlhf_cli.functional.returns import centred_in_group
from rlhf_cli.settings import Settings
from rlhf_cli.types import Advantages, Forward, LossResult, Minibatch, Scored

TINY: Final = 1e-4


class Grpo(Settings):
    """Each completion against its group's mean, in units of the group's spread, with PPO's clipping."""

    kind: Literal["grpo"]
    scale_by_std: bool
    """Divide by the group's standard deviation (the paper), or do not (Dr. GRPO)."""
    clip_range: float = Field(gt=0, lt=1)
    """How far a token's ratio may fall below 1 before it earns nothing more."""
    clip_range_high: float = Field(gt=0, allow_inf_nan=False)
    """How far it may rise above 1; more than clip_range is DAPO's clip-higher."""
    aggregation: Aggregation
    """How tokens add up: sum | constant | token_mean | sequence_mean; the biases: functional/losses.py."""
    epochs: int = Field(ge=1)
    """Passes over each rollout."""
    minibatch_size: int | None = Field(ge=1)
    """Completions of one update; null: the whole rollout."""

    min_group: ClassVar[int] = 2
    needs_value: ClassVar[bool] = False

    def refuses(self, kl: Placement) -> str | None:
        """Exact is never exact here: the group's mean holds the completion itself."""
        return SHRINKS if kl == "exact" else None

    def advantages(self, scored: Scored, past: RunningMean) -> Advantages:
        """The completion's return minus its group's mean, over its group's spread, at every token."""
        returns = scored.returns
        relative, deviation = centred_in_group(returns, scored.rollout.batch.samples_per_prompt, scored.counts)
        if self.scale_by_std:
            relative = relative / (deviation + TINY)
        return Advantages(scored, relative.unsqueeze(1) * scored.rollout.completion_mask)

    def loss(self, minibatch: Minibatch, forward: Forward) -> LossResult:
        """The clipped surrogate; on the first update of a rollout every ratio is 1, and nothing is clipped."""
        m = minibatch
        loss, clipped = clipped_surrogate(
            forward.logprobs, m.logprobs, m.advantages, m.weights, self.clip_range, self.clip_range_high
        )
        return LossResult(loss, {"policy/clip_fraction": float(clipped.sum())})
