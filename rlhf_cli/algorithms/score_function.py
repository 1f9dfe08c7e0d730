"""The score-function gradient (Williams 1992): what REINFORCE and RLOO share.

One update per rollout, by all completions at once. Aggregation: sum over tokens, mean over completions.
"""

from typing import ClassVar

from rlhf_cli.algorithms.placement import Placement
from rlhf_cli.functional.losses import Aggregation, policy_gradient
from rlhf_cli.settings import Settings
from rlhf_cli.types import Forward, LossResult, Minibatch


class ScoreFunction(Settings):
    """The base of algorithms whose loss is -(1/B) sum_i sum_t A_it log pi(a_it | s_it)."""

    min_group: ClassVar[int] = 1
    why_no_mask: ClassVar[str | None] = None
    needs_value: ClassVar[bool] = False
    shared_trunk: ClassVar[bool] = False
    epochs: ClassVar[int] = 1
    minibatch_size: ClassVar[int | None] = None
    aggregation: ClassVar[Aggregation] = "sum"

    @property
    def min_completions(self) -> int:
        """Completions that a rollout has to have."""
        return 1

    def why_unsound(self, kl: Placement) -> str | None:
        """None: every placement is sound."""
        return None

    def loss(self, minibatch: Minibatch, forward: Forward) -> LossResult:
        """-(1/B) sum_i sum_t A_it log pi(a_it | s_it)."""
        return LossResult(policy_gradient(forward.logprobs, minibatch.advantages, minibatch.weights))
