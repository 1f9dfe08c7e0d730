"""From a rollout to scores and rewards: the reward judges the texts, the reference reads the tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

from rlhf_cli.engine import Engine
from rlhf_cli.errors import EXIT_REWARD, UserError
from rlhf_cli.functional.kl import against_reference, k1
from rlhf_cli.functional.returns import token_rewards
from rlhf_cli.rewards import Reward
from rlhf_cli.types import Rollout, Scored

LARGEST: Final = float(torch.finfo(torch.float32).max)


def judge(rollout: Rollout, reward: Reward) -> Tensor:
    """The reward's scores, float32 [B]; raises UserError (exit 4) unless it gives one finite number a completion."""
    prompts = [rollout.batch.prompt_of(row).row for row in range(len(rollout.batch))]
    scores = reward.score(prompts, rollout.texts)
    _check(scores, rollout.texts, reward.kind)
    return torch.tensor(scores, dtype=torch.float32, device=rollout.tokens.device)


def against(
    rollout: Rollout, scores: Tensor, engine: Engine, beta: float, microbatch_size: int, tick: Callable[[], None]
) -> Scored:
    """Put the reference beside the rollout: its log-probabilities, the KL in nats, and the KL-penalised rewards."""
    mask = rollout.completion_mask
    ref_logprobs, exact, entropy = (torch.zeros_like(rollout.logprobs) for _ in range(3))
    with torch.no_grad():
        for rows in microbatches(len(rollout.batch), microbatch_size):
            keep = mask[rows]
            measured = against_reference(
                rollout.hidden[rows][keep],
                engine.hidden(rollout, rows, reference=True),
                rollout.tokens[rows][keep],
                engine.head,
                rollout.temperature,
            )
            for padded, packed in zip((ref_logprobs, exact, entropy), measured, strict=True):
                padded[rows] = unpacked(packed, keep)
            tick()
    kl = k1(rollout.logprobs, ref_logprobs)
    rewards = token_rewards(scores, kl, beta, mask)
    return Scored(rollout, scores, ref_logprobs, kl, exact, entropy, beta, rewards)


def microbatches(rows: int, size: int) -> Iterator[slice]:
    """range(rows) in slices of at most `size`."""
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def unpacked(values: Tensor, mask: Tensor) -> Tensor:
    """[N] values of the positions where `mask` [b, T] is True, back in their places; zero elsewhere."""
    return torch.zeros(mask.shape, dtype=values.dtype, device=values.device).masked_scatter(mask, values)


def _check(scores: Sequence[float], texts: Sequence[str], kind: str) -> None:
    if len(scores) != len(texts):
        raise UserError(
            f"{len(scores)} scores for {len(texts)} completions", where=f"reward={kind}", exit_code=EXIT_REWARD
        )
    for score, text in zip(scores, texts, strict=True):
        if not isinstance(score, int | float) or not abs(score) <= LARGEST:
            raise UserError(
                f"scored {score} for the completion {text!r}", where=f"reward={kind}", exit_code=EXIT_REWARD
            )
