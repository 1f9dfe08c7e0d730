"""From a rollout to scores and rewards: the reward judges the texts, the reference reads the tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import replace

import torch
from torch import Tensor

from rlhf_cli.errors import EXIT_REWARD
from rlhf_cli.functional.truncation import of_rows
from rlhf_cli.pipeline.skipping import Skip
from rlhf_cli.rewards import Reward
from rlhf_cli.rewards.execution.scorer import Judge, Judged
from rlhf_cli.rewards.shaping import shaped
from rlhf_cli.types import PromptBatch, Rollout


def judge(rollout: Rollout, by: Judge, reward: Reward, *, seed: int, tick: Callable[[], None], where: str) -> Judged:
    """What the reward makes of the completions (see `Judge.score`), and what is made of that."""
    batch = rollout.batch
    prompts = [batch.prompt_of(row).row for row in range(len(batch))]
    ids = [row[mask].tolist() for row, mask in zip(rollout.tokens, rollout.completion_mask, strict=True)]
    group = batch.samples_per_prompt
    judged = by.score(prompts, rollout.texts, seed=seed, group=group, tick=tick, where=where, token_ids=ids)
    scores = shaped(judged.scores, rollout.lengths.tolist(), rollout.truncated.tolist(), reward)
    parts = {"raw": judged.scores} if reward.shapes else {}
    return replace(judged, scores=tuple(scores), parts=parts | dict(judged.parts))


def left_out(rollout: Rollout, judged: Judged) -> set[int]:
    """The prompts of the batch that have a completion without a score."""
    size = rollout.batch.samples_per_prompt
    return {row // size for row, score in enumerate(judged.scores) if math.isnan(score)}


def scores_of(judged: Judged, rollout: Rollout) -> Tensor:
    """The scores of the rollout, float32 [B]."""
    return torch.tensor(judged.scores, dtype=torch.float32, device=rollout.tokens.device)


def with_scores(rollout: Rollout, judged: Judged) -> tuple[Rollout, Tensor, dict[str, Tensor]]:
    """The rollout of the prompts whose completions were all scored, their scores, and those of the reward's parts.

    Scores are float32 [B]. Raises Skip where there are none.
    """
    dropped = left_out(rollout, judged)
    if len(dropped) == len(rollout.batch.prompts):
        raise Skip(
            f"no prompt has a score for each of its completions; the first failure: {judged.first}",
            "mend the reward, then continue by resume=",
            EXIT_REWARD,
            failures=judged.failures,
        )
    scores = scores_of(judged, rollout)
    parts = {name: scores_of(replace(judged, scores=part), rollout) for name, part in judged.parts.items()}
    kept = ~scores.isnan()
    return drop_prompts(rollout, dropped), scores[kept], {name: part[kept] for name, part in parts.items()}


def learnable_mask(rollout: Rollout, truncated: str, at_least: int) -> Tensor:
    """The completions that are learned from, bool [B]: all; under truncated=mask those that ended by themselves, where
    there are `at_least` so many of them in their group.

    Raises Skip where there are none. DAPO's overlong filtering (arXiv:2503.14476, section 3.4), with the groups too.
    """
    if truncated != "mask":
        return torch.ones_like(rollout.truncated)
    ended = ~rollout.truncated
    groups = ended.view(-1, rollout.batch.samples_per_prompt)
    counts = (groups & (groups.sum(1, keepdim=True) >= at_least)).reshape(-1)
    if not bool(counts.any()):
        raise Skip(
            "no group has enough completions that ended before max_new_tokens (reward.truncated=mask)",
            "raise max_new_tokens, or choose reward.truncated=penalty",
            EXIT_REWARD,
        )
    return counts


def drop_prompts(rollout: Rollout, prompts: Collection[int]) -> Rollout:
    """The rollout as if the prompts of these numbers had not been in its batch, nor their completions been sampled."""
    if not prompts:
        return rollout
    batch, mask = rollout.batch, rollout.completion_mask
    rows = [row for row in range(len(batch)) if row // batch.samples_per_prompt not in prompts]
    kept = torch.tensor(rows, device=mask.device)
    width = int(rollout.lengths[kept].max())
    return replace(
        rollout,
        batch=PromptBatch(
            prompts=tuple(prompt for number, prompt in enumerate(batch.prompts) if number not in prompts),
            samples_per_prompt=batch.samples_per_prompt,
            seeds=tuple(batch.seeds[row] for row in rows),
        ),
        tokens=rollout.tokens[kept, :width],
        completion_mask=mask[kept, :width],
        logprobs=rollout.logprobs[kept, :width],
        hidden=rollout.hidden[kept, :width],
        log_weights=rollout.log_weights[kept],
        truncated=rollout.truncated[kept],
        texts=tuple(rollout.texts[row] for row in rows),
        kept=of_rows(rollout.kept, mask, kept),
    )
