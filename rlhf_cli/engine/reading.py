"""Read a rollout again: log-probabilities and hidden states of the trainer, and the reference beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from rlhf_cli.algorithms.placement import Placement
from rlhf_cli.engine import Engine
from rlhf_cli.functional.kl import compare_distributions, k1
from rlhf_cli.functional.logprobs import token_logprobs
from rlhf_cli.functional.returns import token_rewards
from rlhf_cli.functional.truncation import select_rows
from rlhf_cli.types import Exact, Rollout, Scored


def recompute_logprobs(
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
            kept = select_rows(rollout.kept, mask, rows)
            hidden = engine.hidden(rollout, rows, reference=reference)
            packed = token_logprobs(hidden, rollout.tokens[rows][keep], engine.head, rollout.temperature, kept)
            logprobs[rows], states[rows] = unpacked(packed, keep), unpacked(hidden, keep)
            tick()
    log_weights = (logprobs - rollout.logprobs).sum(1)
    return replace(rollout, logprobs=logprobs, hidden=states, log_weights=log_weights, compared=True)


def score_against_reference(
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
                kept = select_rows(rollout.kept, mask, rows)
                measured = compare_distributions(hidden, reference, tokens, engine.head, rollout.temperature, kept)
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
