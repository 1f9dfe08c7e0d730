"""GRPO, group relative policy optimisation (Shao et al. 2024, arXiv:2402.03300, section 4.1), and its descendants.

    A_i = (R_i - mean_j R_j) / std_j R_j          over the G completions of one prompt, R_i = r_i - beta sum_t k1_it
    loss = - mean_it min( ratio_it A_i, clip(ratio_it, 1 - clip_range, 1 + clip_range_high) A_i )

    scale_by_std: false, aggregation: constant           Dr. GRPO (Liu et al. 2025, arXiv:2503.20783)
    clip_range_high: 0.28, aggregation: token_mean       DAPO's clip-higher and loss (Yu et al. 2025, arXiv:2503.14476)

The mean includes the completion itself: without the standard deviation, A_i is (G - 1) / G of RLOO's. The standard
deviation (over G - 1) gives every group the same weight, however far its scores are apart. With k1 in the reward this
leaves each prompt's optimum where it is, but prompts that share parameters are weighted differently from J.

Deviations from the paper: the KL is part of the return (the paper has k3 as a loss, whose gradient is not that of the
KL: see `placement`), and 1e-4 is added to the standard deviation, so that a group of nearly equal returns is not blown
up to unit size. One of returns that are equal, up to float32's rounding, has no advantage at all.
"""

from typing import ClassVar, Literal

from pydantic import Field

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.placement import SELF_INCLUSIVE_MEAN, WHOLLY, Placement
from rlhf_cli.functional.losses import Aggregation, clipped_surrogate
from rlhf_cli.functional.returns import STD_EPSILON, centre_by_group
from rlhf_cli.settings import Settings
from rlhf_cli.types import Advantages, Forward, LossResult, Minibatch, Scored


class Grpo(Settings):
    """Compare each completion with its group's mean, in units of the group's spread; clip as PPO does."""

    kind: Literal["grpo"]
    scale_by_std: bool
    """Whether to divide by the group's standard deviation (the paper) or not (Dr. GRPO)."""
    clip_range: float = Field(gt=0, lt=1)
    """Epsilon of PPO's clipping, downwards: a token whose ratio is below 1 - clip_range is pushed down no further."""
    clip_range_high: float = Field(gt=0, le=1e9)
    """The same upwards, above 1 + clip_range_high; more than clip_range is DAPO's clip-higher."""
    aggregation: Aggregation
    """Sum or mean over the tokens of an update; each weighs long completions differently (functional/losses.py)."""
    epochs: int = Field(ge=1, le=1000)
    """Passes over each rollout."""
    minibatch_size: int | None = Field(ge=1)
    """Completions of one update; null: the whole rollout."""

    min_group: ClassVar[int] = 2
    min_completions: ClassVar[int] = 1
    why_no_mask: ClassVar[str | None] = None
    needs_value: ClassVar[bool] = False
    shared_trunk: ClassVar[bool] = False

    def why_unsound(self, kl: Placement) -> str | None:
        """kl=exact would not be exact: the group's mean includes the completion itself."""
        return SELF_INCLUSIVE_MEAN if kl in WHOLLY else None

    def advantages(self, scored: Scored, past: RunningMean) -> Advantages:
        """Return of the completion minus its group's mean, divided by its group's spread, at every token."""
        returns = scored.returns
        relative, deviation = centre_by_group(returns, scored.rollout.batch.samples_per_prompt, scored.learnable)
        if self.scale_by_std:
            relative = relative / (deviation + STD_EPSILON)
        return Advantages(scored, relative.unsqueeze(1) * scored.rollout.completion_mask)

    def loss(self, minibatch: Minibatch, forward: Forward) -> LossResult:
        """The clipped surrogate. On the first update of a rollout every ratio is 1 and nothing is clipped."""
        m = minibatch
        loss, clipped = clipped_surrogate(
            forward.logprobs, m.logprobs, m.advantages, m.weights, self.clip_range, self.clip_range_high
        )
        return LossResult(loss, {"policy/clip_fraction": float(clipped.sum())})
