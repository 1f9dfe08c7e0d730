"""REINFORCE (Williams 1992): the score-function gradient of the KL-regularised objective.

    grad J = E[ sum_t grad log pi(a_t | s_t) ( r - beta sum_{t' >= t} k1_t' - b ) ],   k1 = log pi - log pi_ref

Each token is credited with the rewards from its own position on (the return-to-go of `Scored.rewards`), so the KL
already paid adds no noise. b does not depend on the token, and removes variance:

    none     b = 0
    mean     b = mean return of this batch. It holds the completion itself: shrinks the gradient by (B - 1) / B
    running  b = mean return of all completions of *past* steps (arXiv:2402.14740, section 3.1); unbiased

Deviations from the paper: none. Aggregation: sum over tokens, mean over completions, which is the gradient above.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.placement import SHRINKS, Placement
from rlhf_cli.functional.losses import Aggregation, policy_gradient
from rlhf_cli.functional.returns import returns_to_go
from rlhf_cli.settings import Settings
from rlhf_cli.types import Advantages, Forward, LossResult, Minibatch, Scored


class Reinforce(Settings):
    """The score-function gradient with a baseline of one's choice."""

    kind: Literal["reinforce"]
    baseline: Literal["none", "mean", "running"]
    """What is subtracted from the return: nothing, the batch mean, or the mean of past steps."""

    min_group: ClassVar[int] = 1
    needs_value: ClassVar[bool] = False
    epochs: ClassVar[int] = 1
    minibatch_size: ClassVar[int | None] = None
    aggregation: ClassVar[Aggregation] = "sum"

    def refuses(self, kl: Placement) -> str | None:
        """Exact is not exact where the batch mean shrinks the reward's part of the gradient and not the KL loss."""
        return SHRINKS if kl == "exact" and self.baseline == "mean" else None

    def advantages(self, scored: Scored, past: RunningMean) -> Advantages:
        """Return-to-go minus the baseline, at every token."""
        baseline = {"none": 0.0, "mean": float(scored.returns[scored.counts].mean()), "running": past.mean}[
            self.baseline
        ]
        advantages = returns_to_go(scored.rewards) - baseline
        return Advantages(scored, advantages.masked_fill(~scored.rollout.completion_mask, 0.0))

    def loss(self, minibatch: Minibatch, forward: Forward) -> LossResult:
        """-(1/B) sum_i sum_t A_it log pi(a_it | s_it)."""
        return LossResult(policy_gradient(forward.logprobs, minibatch.advantages, minibatch.weights))
