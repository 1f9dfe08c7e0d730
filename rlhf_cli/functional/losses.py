"""The policy-gradient losses, the value loss, the KL as a loss, and the weight of each token in them.

Like `returns`, this module imports torch only for its types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rlhf_cli.functional.masked import masked_sum

if TYPE_CHECKING:
    from torch import Tensor

Aggregation = Literal["sum", "constant", "token_mean", "sequence_mean"]
"""The ways to combine the tokens of an update:

sum            the sum over tokens, the mean over completions: the true gradient
constant       the same divided by max_new_tokens (Dr. GRPO, arXiv:2503.20783): unbiased up to that scale
token_mean     the mean over all tokens (DAPO, arXiv:2503.14476): a ratio of two sums, biased by O(1 / completions)
sequence_mean  the mean over completions of their token means (GRPO, arXiv:2402.03300): biased towards short good
               and long bad completions
"""


def token_weights(completion_mask: Tensor, aggregation: Aggregation, max_new_tokens: int) -> Tensor:
    """Weight of each token in the loss of one update: float64 [B, T], zero in the padding.

    The loss is sum_it weights_it * loss_it; splitting the sum over microbatches does not change it.
    """
    mask = completion_mask.double()
    completions, lengths = len(mask), mask.sum(1, keepdim=True)
    if aggregation == "sum":
        return mask / completions
    if aggregation == "constant":
        return mask / (completions * max_new_tokens)
    if aggregation == "token_mean":
        return mask / lengths.sum()
    return mask / (completions * lengths)


def policy_gradient(logprobs: Tensor, advantages: Tensor, weights: Tensor) -> Tensor:
    """-sum_it weights_it A_it log pi(a_it | s_it), all [b, T]; the logprobs carry the gradient.

    With sum weights, its gradient is minus the gradient of E[sum_t A_t log pi(a_t)] (Williams 1992).
    """
    return -masked_sum(weights * advantages * logprobs, weights != 0).sum()


def clipped_surrogate(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, weights: Tensor, low: float, high: float
) -> tuple[Tensor, Tensor]:
    """-sum_it weights_it min(ratio A, clip(ratio, 1 - low, 1 + high) A), and a mask of the clipped tokens.

    ratio = pi(a) / pi_old(a); all [b, T]. The mask, bool [b, T], is True where the clipped branch is the smaller.
    Schulman et al. 2017, arXiv:1707.06347, equation 7; two ranges: DAPO, arXiv:2503.14476, equation 10.
    """
    ratio = (logprobs - old_logprobs).exp()
    free, clipped = ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages
    loss = -masked_sum(weights * free.minimum(clipped), weights != 0).sum()
    return loss, (clipped < free) & (weights != 0)


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, weights: Tensor, clip_range: float | None
) -> tuple[Tensor, Tensor]:
    """sum_it weights_it / 2 * max((V - R)^2, (V_clipped - R)^2), and a mask of the clipped tokens.

    V_clipped stays within `clip_range` of the old value; None: no clipping. All [b, T]. The mask, bool [b, T], is True
    where a value is clipped and the clipped branch is the larger. From the code of PPO (Schulman et al. 2017; Engstrom
    et al. 2020, arXiv:2005.12729, section 2), not from the paper.
    """
    free, moved = (values - returns).square(), values - old_values
    held = moved if clip_range is None else moved.clamp(-clip_range, clip_range)
    clipped = free if clip_range is None else (old_values + held - returns).square()
    loss = masked_sum(weights * free.maximum(clipped), weights != 0).sum() / 2
    return loss, (clipped > free) & (held != moved) & (weights != 0)  # within the range the branches differ by rounding


def k2_loss(logprobs: Tensor, ref_logprobs: Tensor, weights: Tensor) -> Tensor:
    """sum_it weights_it (log pi - log pi_ref)^2 / 2 at the sampled tokens; all [b, T].

    Its expected gradient is that of KL(pi(.|s) || pi_ref(.|s)) at the visited states, with the states held fixed
    (arXiv:2506.09477, arXiv:2512.21852).
    """
    return masked_sum(weights * (logprobs - ref_logprobs).square(), weights != 0).sum() / 2


def sequence_k2_loss(logprobs: Tensor, ref_logprobs: Tensor, weights: Tensor) -> Tensor:
    """sum_i weights_i (sum_t log pi - log pi_ref)^2 / 2; logprobs and weights [b, T], one weight for all tokens of i.

    Its expected gradient is that of KL(pi || pi_ref) over whole completions (arXiv:2510.01555): the gradient of
    log pi has mean 0, so only k1 of the completion is left as its factor.
    """
    k1 = masked_sum(logprobs - ref_logprobs, weights != 0)
    return (weights.amax(1) * k1.square()).sum() / 2
