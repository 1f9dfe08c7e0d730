"""REINFORCE (Williams 1992): the score-function gradient of the KL-regularised objective.

    grad J = E[ sum_t grad log pi(a_t | s_t) ( r - beta sum_{t' >= t} k1_t' - b ) ],   k1 = log pi - log pi_ref

Each token is credited with the rewards from its own position on (the return-to-go of `Scored.rewards`): the KL of
earlier tokens would only add noise. The baseline b does not depend on the token and reduces the variance:

    none     b = 0
    mean     b = mean return of this batch. It includes the completion itself: shrinks the gradient by (B - 1) / B
    running  b = mean return of all completions of *past* steps (arXiv:2402.14740, section 3.1); unbiased

Deviations from the paper: none. Aggregation: sum over tokens, mean over completions, which is the gradient above.
"""

from typing import ClassVar, Literal

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.placement import SELF_INCLUSIVE_MEAN, WHOLLY, Placement
from rlhf_cli.algorithms.score_function import ScoreFunction
from rlhf_cli.functional.returns import are_alike, returns_to_go
from rlhf_cli.types import Advantages, Scored


class Reinforce(ScoreFunction):
    """Credit each token with its return-to-go minus a baseline."""

    kind: Literal["reinforce"]
    baseline: Literal["none", "mean", "running"]
    """Subtracted from the return: nothing, the batch mean, or the mean of past steps."""

    why_no_mask: ClassVar[str | None] = (
        "its returns are not compared within their prompt, so it would also learn how often completions end, up or "
        "down by the size of the scores: algorithm=rloo, or reward.truncated=penalty"
    )

    @property
    def min_completions(self) -> int:
        """The mean of a single completion would cancel its score altogether."""
        return 2 if self.baseline == "mean" else 1

    def why_unsound(self, kl: Placement) -> str | None:
        """The batch mean shrinks the reward's part of the gradient but not the KL loss: kl=exact would not be exact."""
        return SELF_INCLUSIVE_MEAN if kl in WHOLLY and self.baseline == "mean" else None

    def advantages(self, scored: Scored, past: RunningMean) -> Advantages:
        """Return-to-go minus the baseline, at every token."""
        returns, mask = returns_to_go(scored.rewards), scored.rollout.completion_mask
        if self.baseline == "mean":
            learned = mask & scored.learnable.unsqueeze(1)
            mask = mask & ~are_alike(returns.view(1, -1), learned.view(1, -1))
        mean = float(scored.returns[scored.learnable].mean())
        baseline = {"none": 0.0, "mean": mean, "running": past.mean}[self.baseline]
        return Advantages(scored, (returns - baseline).masked_fill(~mask, 0.0))
