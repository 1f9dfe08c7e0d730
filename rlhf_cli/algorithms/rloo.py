"""RLOO, REINFORCE leave-one-out (Ahmadian et al. 2024, arXiv:2402.14740, section 3.2; Kool et al. 2019).

    A_i = R_i - mean_{j != i} R_j,   R_i = r_i - beta sum_t k1_it

over the completions of one prompt. The others do not depend on completion i, so the gradient is unbiased; the baseline
follows each prompt's difficulty without a value network. The whole completion is one action: all its tokens have its
advantage. The *penalised* return goes through the baseline, not the raw score.

Under reward.truncated=mask the group is its completions that ended, and the gradient is exactly that of
E[r | ended] - beta KL(policy | ended || reference | ended), whose optimum is pi_ref(y | ended) exp(r / beta) / Z.

Deviations from the paper: none. Aggregation: sum over tokens, mean over completions.
"""

from typing import ClassVar, Literal

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.score_function import ScoreFunction
from rlhf_cli.functional.returns import leave_one_out
from rlhf_cli.types import Advantages, Scored


class Rloo(ScoreFunction):
    """Compare each completion with the mean of its group's others."""

    kind: Literal["rloo"]

    min_group: ClassVar[int] = 2

    def advantages(self, scored: Scored, past: RunningMean) -> Advantages:
        """Return of the completion minus the mean return of its group's others, at every token."""
        returns = scored.returns
        centred = returns - leave_one_out(returns, scored.rollout.batch.samples_per_prompt, scored.learnable)
        return Advantages(scored, centred.unsqueeze(1) * scored.rollout.completion_mask)
