"""Dynamic sampling (DAPO: Yu et al. 2025, arXiv:2503.14476, section 3.2): learn from groups with different scores.

    P_x = 1 - sum_s P(r = s | x)^n        with scores of 0 and 1 and success p: 1 - p^n - (1 - p)^n

is the chance that n completions of x have different scores, so x has p_x P_x / Z of the groups that are kept, with
Z = sum_z p_z P_z and its share p_x of all prompts. Where each completion is compared with its group, a group with one
score has no gradient from the reward. So the kept groups of x have 1 / P_x of its mean gradient, and the expectation is

    sum_x p_x P_x / Z E[g | x, kept] = sum_x p_x grad E[r | x] / Z        without a KL

the direction of all prompts alike; its length grows as Z falls. A group with one score has a gradient from the KL
still, and this one is left out: with beta > 0 the KL of a prompt counts by about its P_x, and that is not J.

Deviations from the paper: a step has a limit of rollouts. Of the groups behind the last one that fits, the paper says
nothing; here they are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlhf_cli.functional.returns import are_alike

if TYPE_CHECKING:
    from torch import Tensor


def have_differences(scores: Tensor, samples: int) -> Tensor:
    """Whether the scores of each group differ by more than rounding: [B] -> bool [B / samples]."""
    groups = scores.view(-1, samples)
    return ~are_alike(groups, groups.isfinite()).squeeze(1)


def choose(scores: Tensor, samples: int, count: int) -> Tensor:
    """Mask of the completions of the first `count` groups whose scores differ: [B] -> bool [B]."""
    differ = have_differences(scores, samples)
    return (differ & (differ.cumsum(0) <= count)).repeat_interleave(samples)
