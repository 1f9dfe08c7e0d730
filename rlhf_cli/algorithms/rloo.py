"""RLOO, REINFORCE leave-one-out (Ahmadian et al. 2024, arXiv:2402.14740, section 3.2; Kool et al. 2019).

    A_i = R_i - mean_{j != i} R_j,   R_i = r_i - beta sum_t k1_it

over the completions of one prompt. Unbiased, since the others do not depend on completion i; the baseline follows each
prompt's own difficulty and needs no value network. The whole completion is one action: every token has the
advantage of its completion. The *penalised* return goes through the baseline, not the raw score.

Deviations from the paper: none. Aggregation: sum over tokens, mean over completions.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.placement import Placement
from rlhf_cli.functional.losses import Aggregation, policy_gradient
from rlhf_cli.functional.returns import leave_one_out
from rlhf_cli.settings import Settings
from rlhf_cli.types import Advantages, Forward, LossResult, Minibatch, Scored


class Rloo(Settings):
    """Each completion against the mean of its group's others."""

    kind: Literal["rloo"]

    min_group: ClassVar[int] = 2
    needs_value: ClassVar[bool] = False
    epochs: ClassVar[int] = 1
    minibatch_size: ClassVar[int | None] = None
    aggregation: ClassVar[Aggregation] = "sum"

    def refuses(self, kl: Placement) -> str | None:
        """Every placement is sound here."""
        return None

    def advantages(self, scored: Scored, past: RunningMean) -> Advantages:
        """The completion's return minus the mean of the others of its group, at every token."""
        returns = scored.returns
        centred = returns - leave_one_out(returns, scored.rollout.batch.samples_per_prompt, scored.counts)
        return Advantages(scored, centred.unsqueeze(1) * scored.rollout.completion_mask)

    def loss(self, minibatch: Minibatch, forward: Forward) -> LossResult:
        """-(1/B) sum_i sum_t A_i log pi(a_it | s_it)."""
        return LossResult(policy_gradient(forward.logprobs, minibatch.advantages, minibatch.weights))
