"""Take a rollout or its advantages apart by prompts, and join rollouts to one.

A part is as if the other prompts had not been in its batch.
"""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from rlhf_cli.functional.truncation import join, select_rows
from rlhf_cli.types import Advantages, PromptBatch, Rollout


def select_prompts(rollout: Rollout, numbers: Sequence[int]) -> Rollout:
    """The completions of the prompts of these numbers, ascending, as if no others had been in the batch."""
    batch = rollout.batch
    if len(numbers) == len(batch.prompts):
        return rollout
    return select_completions(rollout, rows_of(batch, numbers), take_prompts(batch, numbers))


def select_completions(rollout: Rollout, rows: Sequence[int], batch: PromptBatch) -> Rollout:
    """The completions `rows`, which may repeat, as a rollout of the `batch`."""
    kept = torch.tensor(rows, device=rollout.tokens.device)
    width = int(rollout.lengths[kept].max())
    return replace(
        rollout,
        batch=batch,
        tokens=rollout.tokens[kept, :width],
        completion_mask=rollout.completion_mask[kept, :width],
        logprobs=rollout.logprobs[kept, :width],
        hidden=rollout.hidden[kept, :width],
        truncated=rollout.truncated[kept],
        texts=tuple(rollout.texts[row] for row in rows),
        kept=select_rows(rollout.kept, rollout.completion_mask, kept),
    )


def split_advantages(advantages: Advantages, blocks: Sequence[range]) -> list[Advantages]:
    """Cut advantages into those of each block of prompts, without the policy's hidden states: no update reads these."""
    scored, batch = advantages.scored, advantages.scored.rollout.batch
    empty = scored.rollout.hidden.new_zeros(*scored.rollout.tokens.shape, 0)
    rollout = replace(scored.rollout, hidden=empty)
    if len(blocks) == 1:
        return [replace(advantages, scored=replace(scored, rollout=rollout))]
    parts = []
    for block in blocks:
        part, rows = select_prompts(rollout, block), torch.tensor(rows_of(batch, block), device=empty.device)
        own = replace(advantages, scored=replace(scored, rollout=part, parts={}))
        parts.append(_take(own, rows, part.tokens.shape[1]))
    return parts


def take_prompts(batch: PromptBatch, numbers: Sequence[int]) -> PromptBatch:
    """The prompts of these numbers, with the seeds of their samples."""
    return PromptBatch(
        prompts=tuple(batch.prompts[number] for number in numbers),
        samples_per_prompt=batch.samples_per_prompt,
        seeds=tuple(batch.seeds[row] for row in rows_of(batch, numbers)),
        draws=tuple(batch.draws[number] for number in numbers) if batch.draws else (),
    )


def join_rollouts(parts: Sequence[Rollout], pad_token: int) -> Rollout:
    """One rollout of the completions of all parts, part after part."""
    if len(parts) == 1:
        return parts[0]
    batches, kept = [part.batch for part in parts], [part.kept for part in parts if part.kept is not None]
    return replace(
        parts[0],
        batch=PromptBatch(
            prompts=tuple(prompt for batch in batches for prompt in batch.prompts),
            samples_per_prompt=batches[0].samples_per_prompt,
            seeds=tuple(seed for batch in batches for seed in batch.seeds),
            draws=tuple(draw for batch in batches for draw in batch.draws),
        ),
        tokens=stack([part.tokens for part in parts], fill=pad_token),
        completion_mask=stack([part.completion_mask for part in parts]),
        logprobs=stack([part.logprobs for part in parts]),
        hidden=stack([part.hidden for part in parts]),
        truncated=torch.cat([part.truncated for part in parts]),
        texts=tuple(text for part in parts for text in part.texts),
        kept=join(kept) if kept else None,
    )


def rows_of(batch: PromptBatch, numbers: Sequence[int]) -> list[int]:
    """The rows of these prompts' completions."""
    size = batch.samples_per_prompt
    return [row for number in numbers for row in range(number * size, (number + 1) * size)]


def row_weights(batch: PromptBatch) -> Tensor | None:
    """The weight of each completion's prompt, float64 [B]; None where all weigh the same."""
    if not batch.draws:
        return None
    weights = torch.tensor([weight for _, weight in batch.draws], dtype=torch.float64)
    return weights.repeat_interleave(batch.samples_per_prompt)


def stack(parts: Sequence[Tensor], fill: int = 0) -> Tensor:
    """The tensors [b, t, ...] of all parts as one [B, T, ...]; the places behind a shorter part hold `fill`."""
    if len(parts) == 1:
        return parts[0]
    width = max(part.shape[1] for part in parts)
    behind = [[0, 0] * (part.dim() - 2) + [0, width - part.shape[1]] for part in parts]
    return torch.cat([pad(part, [*places], value=fill) for part, places in zip(parts, behind, strict=True)])


def _take(value: Any, rows: Tensor, width: int) -> Any:
    """The value with the rows of all its tensors [B, ...], cut to `width` places where they have places.

    A rollout stays as it is: it has its rows already.
    """
    if isinstance(value, Tensor):
        return value[rows] if value.dim() == 1 else value[rows, :width]
    if isinstance(value, tuple):
        return tuple(_take(one, rows, width) for one in value)
    if is_dataclass(value) and not isinstance(value, type | Rollout):
        return replace(value, **{one.name: _take(getattr(value, one.name), rows, width) for one in fields(value)})
    return value
