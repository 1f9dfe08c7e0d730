"""From scores to what is learned from: leave prompts out, choose the completions that enter the loss."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rlhf_cli.errors import EXIT_REWARD
from rlhf_cli.functional.truncation import select_rows
from rlhf_cli.pipeline.skipping import Skip
from rlhf_cli.rewards.execution.scorer import Scores
from rlhf_cli.types import PromptBatch, Rollout


def score_tensor(values: Sequence[float], rollout: Rollout) -> Tensor:
    """The values as a float32 tensor on the rollout's device."""
    return torch.tensor(values, dtype=torch.float32, device=rollout.tokens.device)


def scores_by_prompt(scores: Scores, rollout: Rollout) -> dict[int, list[float]]:
    """The scores of each prompt that is not left out, by its number in the rollout, rounded to float32."""
    kept = [number for number in range(len(rollout.batch.prompts)) if number not in scores.left_out]
    groups = score_tensor(scores.values, rollout).view(-1, rollout.batch.samples_per_prompt).tolist()
    return dict(zip(kept, groups, strict=True))


def drop_unscored(rollout: Rollout, scores: Scores) -> tuple[Rollout, Tensor, dict[str, Tensor]]:
    """The rollout without the prompts that are left out, its scores, and those of the reward's parts.

    Scores are float32 [B]. Raises Skip where every prompt is left out.
    """
    if not scores.values:
        raise Skip(
            f"no prompt has a score for each of its completions; the first failure: {scores.first_failure}",
            "mend the reward, then continue by resume=",
            EXIT_REWARD,
            failures=scores.failures,
        )
    parts = {name: score_tensor(part, rollout) for name, part in scores.parts.items()}
    return drop_prompts(rollout, scores.left_out), score_tensor(scores.values, rollout), parts


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
        kept=select_rows(rollout.kept, mask, kept),
    )
