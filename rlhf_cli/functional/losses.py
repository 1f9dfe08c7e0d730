"""Losses whose gradients are policy gradients.

Like `returns`, this module needs torch only for its types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlhf_cli.functional.masked import masked_sum

if TYPE_CHECKING:
    from torch import Tensor


def policy_gradient(logprobs: Tensor, advantages: Tensor, completion_mask: Tensor, completions: int) -> Tensor:
    """-(1/B) sum_i sum_t A_it log pi(a_it | s_it): sums over tokens, the mean over all B = `completions`.

    All [b, T]; the logprobs carry the gradient. Its gradient is minus that of E[sum_t A_t log pi(a_t)] (Williams 1992).
    """
    return -masked_sum(advantages * logprobs, completion_mask).sum() / completions
