"""From scores and KL to what a token is credited with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def token_rewards(scores: Tensor, kl: Tensor, beta: float, completion_mask: Tensor) -> Tensor:
    """Rewards [B, T]: -beta * kl at every token, plus the score [B] at the last one.

    Their sum over a completion is score - beta * k1, an unbiased sample of E[r] - beta KL(policy || reference)
    (Ziegler et al. 2019, arXiv:1909.08593, section 2).
    """
    rewards = (kl * -beta).masked_fill(~completion_mask, 0.0)
    last = (completion_mask.sum(1) - 1).unsqueeze(1)
    return rewards.scatter_add(1, last, scores.to(rewards.dtype).unsqueeze(1))


def returns_to_go(rewards: Tensor) -> Tensor:
    """Undiscounted sum of the rewards from each token on: [B, T] -> [B, T]."""
    return rewards.flip(-1).cumsum(-1).flip(-1)


def leave_one_out(values: Tensor, samples_per_prompt: int) -> Tensor:
    """The mean of the *other* values of each value's group: [B] -> [B]; groups are neighbouring rows of size >= 2."""
    groups = values.view(-1, samples_per_prompt)
    others = (groups.sum(1, keepdim=True) - groups) / (samples_per_prompt - 1)
    return others.reshape(-1)
