"""Rewards, returns and advantages of tokens, from scores and KL."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rlhf_cli.functional.masked import masked_mean

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING: Final = 2.0**-22
"""Two to four steps between neighbouring float32 numbers, as a share of the number: a smaller spread is rounding."""
STD_EPSILON: Final = 1e-4
"""Added to a standard deviation that divides, so that almost equal values are not blown up to unit size."""


def token_rewards(scores: Tensor, penalty: Tensor, beta: float, completion_mask: Tensor) -> Tensor:
    """Rewards [B, T]: -beta * penalty at every token, plus the score [B] at the last one.

    With k1 or the exact KL of each position as the penalty, the sum over a completion is an unbiased sample of
    E[r] - beta KL(policy || reference) (Ziegler et al. 2019, arXiv:1909.08593, section 2).
    """
    rewards = (penalty * -beta).masked_fill(~completion_mask, 0.0)
    last = (completion_mask.sum(1) - 1).unsqueeze(1)
    return rewards.scatter_add(1, last, scores.to(rewards.dtype).unsqueeze(1))


def returns_to_go(rewards: Tensor) -> Tensor:
    """Sum of the rewards from each token on, undiscounted: [B, T] -> [B, T]."""
    return rewards.flip(-1).cumsum(-1).flip(-1)


def equalise(values: Tensor, samples_per_prompt: int, counts: Tensor) -> Tensor:
    """The values [B], made equal within a group whose values differ by rounding alone.

    Less a mean that is close to them, they would differ by more of what is left. Only where `counts` [B] is True.
    """
    groups, mask = values.view(-1, samples_per_prompt), counts.view(-1, samples_per_prompt)
    lowest = groups.masked_fill(~mask, math.inf).amin(1, keepdim=True)
    return lowest.where(mask & are_alike(groups, mask), groups).reshape(-1)


def leave_one_out(values: Tensor, samples_per_prompt: int, counts: Tensor) -> Tensor:
    """Mean of the *other* values in each value's group: [B] -> [B]; groups are neighbouring rows of size >= 2.

    Only values where `counts` [B] is True enter a mean; without any others the mean is zero.
    """
    groups, mask = values.view(-1, samples_per_prompt), counts.view(-1, samples_per_prompt)
    kept = groups.masked_fill(~mask, 0.0)
    others = mask.sum(1, keepdim=True) - mask.long()
    means = (kept.sum(1, keepdim=True) - kept) / others.clamp(min=1)
    return groups.where(mask & are_alike(groups, mask) & (others > 0), means).reshape(-1)


def centre_by_group(values: Tensor, samples_per_prompt: int, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Each value minus its group's mean, and the group's standard deviation (over n - 1): both [B].

    Only values where `counts` [B] is True enter either. A group has none of them, or at least two.
    """
    groups, mask = values.view(-1, samples_per_prompt), counts.view(-1, samples_per_prompt)
    number = mask.sum(1, keepdim=True)
    mean = groups.masked_fill(~mask, 0.0).sum(1, keepdim=True) / number  # of none: NaN, which no value takes
    centred = (groups - mean).masked_fill(~mask | are_alike(groups, mask), 0.0)
    deviation = (centred.square().sum(1, keepdim=True) / (number - 1)).sqrt()
    return centred.reshape(-1), deviation.expand_as(groups).reshape(-1)


def generalised_advantages(
    rewards: Tensor, values: Tensor, completion_mask: Tensor, gamma: float, gae_lambda: float
) -> Tensor:
    """A_t = delta_t + gamma lambda A_t+1 with delta_t = r_t + gamma V_t+1 - V_t: [B, T], zero in the padding.

    V = 0 behind the last token, whether the text ended or was cut. Schulman et al. 2016, arXiv:1506.02438, equation 16.
    """
    values = values.masked_fill(~completion_mask, 0.0)
    advantages = rewards.new_zeros(rewards.shape)
    advantage = next_value = rewards.new_zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = (delta + gamma * gae_lambda * advantage).masked_fill(~completion_mask[:, t], 0.0)
        advantages[:, t], next_value = advantage, values[:, t]
    return advantages


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Shift and scale to mean 0 and variance 1 over all positions where `mask`: [B, T], zero elsewhere."""
    mask = mask & ~are_alike(values.reshape(1, -1), mask.reshape(1, -1))
    centred = values - masked_mean(values, mask)
    return (centred / (masked_mean(centred.square(), mask).sqrt() + STD_EPSILON)).masked_fill(~mask, 0.0)


def are_alike(values: Tensor, mask: Tensor) -> Tensor:
    """Whether all values of a row where `mask` are the same but for float32's rounding: [n, m] -> bool [n, 1].

    They and their mean may differ by rounding, and an optimizer such as Adam takes a step of full size for any
    gradient that it gets: without this, a batch of equal scores would teach its rounding errors.
    """
    lowest, highest = values.masked_fill(~mask, math.inf).amin(1), values.masked_fill(~mask, -math.inf).amax(1)
    return (highest - lowest <= ROUNDING * highest.abs().maximum(lowest.abs())).unsqueeze(1)
