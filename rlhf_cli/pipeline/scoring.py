"""From a rollout to scores and rewards: the reward judges the texts, the reference reads the tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from rlhf_cli.algorithms.placement import Placement
from rlhf_cli.engine import Engine
from rlhf_cli.errors import EXIT_REWARD
from rlhf_cli.functional.kl import against_reference, k1
from rlhf_cli.functional.logprobs import token_logprobs
from rlhf_cli.functional.returns import token_rewards
from rlhf_cli.functional.truncation import of_rows
from rlhf_cli.pipeline.skipping import Skip
from rlhf_cli.rewards import Reward
from rlhf_cli.rewards.judge import Judge, Judged
from rlhf_cli.rewards.shaping import shaped
from rlhf_cli.types import Exact, PromptBatch, Rollout, Scored


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
    return without(rollout, dropped), scores[kept], {name: part[kept] for name, part in parts.items()}


def that_count(rollout: Rollout, truncated: str, at_least: int) -> Tensor:
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


def without(rollout: Rollout, prompts: Collection[int]) -> Rollout:
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


def reread(
    rollout: Rollout, engine: Engine, microbatch_size: int, tick: Callable[[], None], *, reference: bool = False
) -> Rollout:
    """The rollout with the trainer's log-probabilities and hidden states in place of the sampler's, and the weights.

    Sampler and trainer are the same weights, but a cache, a batch or a number format may round differently; k1, the
    returns and every ratio are then the trainer's. `reference`: of the reference, which wrote it.
    """
    mask = rollout.completion_mask
    logprobs, states = torch.zeros_like(rollout.logprobs), torch.zeros_like(rollout.hidden)
    with torch.no_grad():
        for rows in microbatches(torch.arange(len(rollout.batch)), microbatch_size):
            keep = mask[rows]
            kept = of_rows(rollout.kept, mask, rows)
            hidden = engine.hidden(rollout, rows, reference=reference)
            packed = token_logprobs(hidden, rollout.tokens[rows][keep], engine.head, rollout.temperature, kept)
            logprobs[rows], states[rows] = unpacked(packed, keep), unpacked(hidden, keep)
            tick()
    log_weights = (logprobs - rollout.logprobs).sum(1)
    return replace(rollout, logprobs=logprobs, hidden=states, log_weights=log_weights, compared=True)


def against(
    rollout: Rollout,
    scores: Tensor,
    engine: Engine,
    beta: float,
    microbatch_size: int,
    tick: Callable[[], None],
    *,
    counts: Tensor | None = None,
    learned: Tensor | None = None,
    kl: Placement = "reward",
    measure_exact: bool = True,
    needs_value: bool = False,
) -> Scored:
    """Put the reference beside the rollout: its log-probabilities, the KL in nats, and the KL-penalised rewards.

    `counts` are the completions that are learned from (None: all), `learned` is what is learned from in place of the
    scores (None: the scores). `kl` says where the penalty goes; `measure_exact`, whether the exact KL is measured,
    which kl=exact demands: one more product with the output layer and a softmax for every token.
    """
    mask = rollout.completion_mask
    ref_logprobs, exact, entropy, values = (torch.zeros_like(rollout.logprobs) for _ in range(4))
    ref_hidden = torch.zeros_like(rollout.hidden) if kl == "exact" else None
    with torch.no_grad():
        for rows in microbatches(torch.arange(len(rollout.batch)), microbatch_size):
            keep = mask[rows]
            tokens, hidden = rollout.tokens[rows][keep], rollout.hidden[rows][keep]
            reference = engine.hidden(rollout, rows, reference=True)
            if measure_exact:
                kept = of_rows(rollout.kept, mask, rows)
                measured = against_reference(hidden, reference, tokens, engine.head, rollout.temperature, kept)
                for padded, packed in zip((ref_logprobs, exact, entropy), measured, strict=True):
                    padded[rows] = unpacked(packed, keep)
            else:
                packed = token_logprobs(reference, tokens, engine.head, rollout.temperature)
                ref_logprobs[rows] = unpacked(packed, keep)
            if ref_hidden is not None:
                ref_hidden[rows] = unpacked(reference, keep)
            if needs_value:
                values[rows] = unpacked(engine.values(hidden), keep)
            tick()
    sampled = k1(rollout.logprobs, ref_logprobs)
    penalty = {"reward": sampled, "exact": exact, "loss_k2": torch.zeros_like(sampled)}[kl]
    return Scored(
        rollout=rollout,
        scores=scores,
        ref_logprobs=ref_logprobs,
        kl=sampled,
        exact=Exact(exact, entropy) if measure_exact else None,
        ref_hidden=ref_hidden,
        values=values if needs_value else None,
        beta=beta,
        rewards=token_rewards(scores if learned is None else learned, penalty, beta, mask),
        counts=torch.ones_like(rollout.truncated) if counts is None else counts,
    )


def microbatches(rows: Tensor, size: int) -> Iterator[Tensor]:
    """The row indices in portions of at most `size`."""
    return iter(rows.split(size))


def unpacked(values: Tensor, mask: Tensor) -> Tensor:
    """[N, ...] values of the positions where `mask` [b, T] is True, back in their places [b, T, ...]; zero elsewhere.

    Differentiable.
    """
    places = mask.view(*mask.shape, *[1] * (values.dim() - 1))
    return values.new_zeros(mask.shape + values.shape[1:]).masked_scatter(places, values)
