"""PPO, proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347), as RLHF uses it (arXiv:1909.08593).

    A_t  = sum_k (gamma lambda)^k delta_{t+k},   delta_t = r_t + gamma V(s_{t+1}) - V(s_t)       (arXiv:1506.02438)
    loss = - mean_t min( ratio_t A_t, clip(ratio_t, 1 - clip_range, 1 + clip_range) A_t )
           + vf_coef / 2 mean_t max( (V - R)^2, (clip(V, V_old +- value_clip_range) - R)^2 ),    R_t = A_t + V_old

r_t is -beta k1_t at every token, plus the score at the last one; behind the last token V = 0. The returns are computed
first, then the advantages are whitened over the rollout. Each rollout is used for `epochs` passes in shuffled
minibatches; clipping keeps each update near the policy that wrote the completions.

Deviations from the paper: no entropy bonus, since the KL to the reference keeps the policy spread out; the value head
is not a network of its own but one linear layer, initialised to zero, on the last hidden state of the adapted model.
The head reads those states without sending a gradient back, unless `shared_trunk` lets its loss train the adapter too.
"""

from typing import ClassVar, Literal

from pydantic import Field

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.placement import NOT_EXACT_OFF_POLICY, WHOLLY, Placement
from rlhf_cli.functional.losses import Aggregation, clipped_surrogate, clipped_value_loss
from rlhf_cli.functional.returns import generalised_advantages, whiten
from rlhf_cli.settings import Settings
from rlhf_cli.types import Advantages, Forward, LossResult, Minibatch, Scored


class Ppo(Settings):
    """Compare each token with a value head's expectation; clipping allows several updates per rollout."""

    kind: Literal["ppo"]
    clip_range: float = Field(gt=0, lt=1)
    """Epsilon of PPO's clipping: a token whose ratio has left 1 ± clip_range is pushed no further away."""
    vf_coef: float = Field(ge=0, allow_inf_nan=False)
    """Weight of the value loss."""
    shared_trunk: bool = True  # as runs were that began before this setting; ppo.yaml says false
    """Whether the value loss trains the adapter too; false: it trains the value head alone."""
    value_clip_range: float | None = Field(gt=0, le=1e9)
    """Values are clipped to this distance from their old ones in the value loss; null: not clipped."""
    gamma: float = Field(gt=0, le=1)
    """Discount per token; 1 is the objective J, less is another objective."""
    gae_lambda: float = Field(ge=0, le=1)
    """1: the whole return, unbiased; less: rely more on the value head, with less variance."""
    whiten: bool
    """Whether to scale the advantages of a rollout to mean 0 and variance 1."""
    aggregation: Aggregation
    """Sum or mean over the tokens of an update; each weighs long completions differently (functional/losses.py)."""
    epochs: int = Field(ge=1, le=1000)
    """Passes over each rollout."""
    minibatch_size: int | None = Field(ge=1)
    """Completions of one update; null: the whole rollout."""

    min_group: ClassVar[int] = 1
    min_completions: ClassVar[int] = 1
    why_no_mask: ClassVar[str | None] = (
        "its value head does not compare the completions of a prompt that ended, so it would also learn how often "
        "completions end, whatever the values: algorithm=rloo, or reward.truncated=penalty"
    )
    needs_value: ClassVar[bool] = True

    def why_unsound(self, kl: Placement) -> str | None:
        """kl=exact is not exact off-policy, nor where something rescales, discounts or replaces the reward alone."""
        if kl in WHOLLY and (self.epochs > 1 or self.minibatch_size is not None):
            return NOT_EXACT_OFF_POLICY
        if kl in WHOLLY and (self.whiten or self.gamma < 1):
            return "it would rescale the reward but not the KL loss beside it: algorithm.whiten=false algorithm.gamma=1"
        if kl in WHOLLY and self.gae_lambda < 1:
            return "the value head would stand for the rest of the return: algorithm.gae_lambda=1, or kl=reward"
        if kl in WHOLLY and self.shared_trunk and self.vf_coef > 0:
            return "the value loss would move the policy as well: algorithm.shared_trunk=false, or kl=reward"
        return None

    def advantages(self, scored: Scored, past: RunningMean) -> Advantages:
        """Generalised advantages, and the returns that the value head learns; raises ValueError without values."""
        if scored.values is None:
            raise ValueError("PPO needs the values of a value head")
        mask = scored.rollout.completion_mask
        advantages = generalised_advantages(scored.rewards, scored.values, mask, self.gamma, self.gae_lambda)
        returns = advantages + scored.values
        if self.whiten:
            advantages = whiten(advantages, mask & scored.learnable.unsqueeze(1))
        return Advantages(scored, advantages, returns)

    def loss(self, minibatch: Minibatch, forward: Forward) -> LossResult:
        """The clipped surrogate plus the value loss; raises ValueError without values."""
        m = minibatch
        if forward.values is None or m.values is None or m.returns is None:
            raise ValueError("PPO needs the values of a value head")
        policy_loss, clipped = clipped_surrogate(
            forward.logprobs, m.logprobs, m.advantages, m.weights, self.clip_range, self.clip_range
        )
        value_loss, value_clipped = clipped_value_loss(
            forward.values, m.values, m.returns, m.weights, self.value_clip_range
        )
        return LossResult(
            policy_loss + self.vf_coef * value_loss,
            {
                "policy/clip_fraction": float(clipped.sum()),
                "value/clip_fraction": float(value_clipped.sum()),
                "value/error": float((forward.values - m.returns).detach().square().sum()),
            },
        )
