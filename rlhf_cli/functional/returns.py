"""From scores and KL to what a token is credited with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlhf_cli.functional.masked import masked_mean

if TYPE_CHECKING:
    from torch import Tensor


def token_rewards(scores: Tensor, penalty: Tensor, beta: float, completion_mask: Tensor) -> Tensor:
    """Rewards [B, T]: -beta * penalty at every token, plus the score [B] at the last one.

    With the penalty k1, or the exact KL of each position, their sum over a completion is an unbiased sample of
    E[r] - beta KL(policy || reference) (Ziegler et al. 2019, arXiv:1909.08593, section 2).
    """
    rewards = (penalty * -beta).masked_fill(~completion_mask, 0.0)
    last = (completion_mask.sum(1) - 1).unsqueeze(1)
    return rewards.scatter_add(1, last, scores.to(rewards.dtype).unsqueeze(1))


def returns_to_go(rewards: Tensor) -> Tensor:
    """Undiscounted sum of the rewards from each token on: [B, T] -> [B, T]."""
    return rewards.flip(-1).cumsum(-1).flip(-1)


def leave_one_out(values: Tensor, samples_per_prompt: int, counts: Tensor) -> Tensor:
    """The mean of the *other* values of each value's group: [B] -> [B]; groups are neighbouring rows of size >= 2.

    Only values that `counts` [B] are part of a mean; zero where there are no others.
    """
    groups, mask = values.view(-1, samples_per_prompt), counts.view(-1, samples_per_prompt)
    kept = groups.masked_fill(~mask, 0.0)
    others = mask.sum(1, keepdim=True) - mask.long()
    return ((kept.sum(1, keepdim=True) - kept) / others.clamp(min=1)).reshape(-1)


def centred_in_group(values: Tensor, samples_per_prompt: int, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Each value less the mean of its group, and the group's standard deviation (over one less): both [B].

    Only values that `counts` [B] are part of either, and there are two of them in every group that has any.
    """
    groups, mask = values.view(-1, samples_per_prompt), counts.view(-1, samples_per_prompt)
    number = mask.sum(1, keepdim=True)
    mean = groups.masked_fill(~mask, 0.0).sum(1, keepdim=True) / number.clamp(min=1)
    centred = (groups - mean).masked_fill(~mask, 0.0)
    deviation = (centred.square().sum(1, keepdim=True) / (number - 1).clamp(min=1)).sqrt()
    return centred.reshape(-1), deviation.expand_as(groups).reshape(-1)


def generalised_advantages(
    rewards: Tensor, values: Tensor, completion_mask: Tensor, gamma: float, gae_lambda: float
) -> Tensor:
    """A_t = delta_t + gamma lambda A_t+1 with delta_t = r_t + gamma V_t+1 - V_t: [B, T], zero in the padding.

    Behind the last token there is nothing to expect: V = 0 there, whether the text ended or was cut. Schulman et al.
    2016, arXiv:1506.02438, equation 16.
    """
    values = values.masked_fill(~completion_mask, 0.0)
    advantages = rewards.new_zeros(rewards.shape)
    advantage = next_value = rewards.new_zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = (delta + gamma * gae_lambda * advantage).masked_fill(~completion_mask[:, t], 0.0)
        advantages[:, t], next_value = advantage, values[:, t]
    return advantages


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """Shifted and scaled to mean 0 and variance 1 over every position where `mask`: [B, T], zero elsewhere.

    1e-4 is added to the standard deviation: values that differ by rounding alone stay near zero.
    """
    centred = values - masked_mean(values, mask)
    return (centred / (masked_mean(centred.square(), mask).sqrt() + 1e-4)).masked_fill(~mask, 0.0)
