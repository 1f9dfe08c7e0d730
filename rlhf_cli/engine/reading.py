"""Read a rollout: the trainer's log-probabilities, the reference's beside them, and the value head's values."""

from dataclasses import replace

import torch
from torch import Tensor

from rlhf_cli.engine import Engine
from rlhf_cli.functional.kl import compare_distributions, k1
from rlhf_cli.functional.logprobs import Head, token_logprobs
from rlhf_cli.functional.truncation import select_rows
from rlhf_cli.types import Distance, Exact, Rollout, Tick


@torch.no_grad()
def recompute_logprobs(
    rollout: Rollout, engine: Engine, microbatch_size: int, tick: Tick, *, reference: bool = False
) -> tuple[Rollout, Tensor]:
    """Replace the sampler's log-probabilities and hidden states by the trainer's; also return the log-weights.

    Log-weights are float32 [B]: log of the trainer's over the sampler's probability of each completion. Both have the
    same weights, but a cache, a batch or a number format may round differently; k1, the returns and every ratio are
    then the trainer's. `reference`: the reference sampled the rollout, and reads it.
    """
    logprobs = torch.zeros_like(rollout.logprobs)
    head, states = (engine.reference_head if reference else engine.head), None
    for rows in torch.arange(len(rollout.batch)).split(microbatch_size):
        hidden = engine.hidden(rollout, rows, reference=reference)
        states = _room(rollout, hidden) if states is None else states  # policy and reference may differ in width
        logprobs[rows] = read_logprobs(rollout, rows, hidden, head)
        states[rows] = unpack(hidden, rollout.completion_mask[rows])
        tick()
    assert states is not None
    return replace(rollout, logprobs=logprobs, hidden=states), (logprobs - rollout.logprobs).sum(1)


@torch.no_grad()
def measure_gap(rollout: Rollout, engine: Engine, rows: Tensor) -> float:
    """Largest difference, nats, of the sampler's and the trainer's log-probability of a completion among `rows`."""
    logprobs = read_logprobs(rollout, rows, engine.hidden(rollout, rows), engine.head)
    return float((logprobs - rollout.logprobs[rows]).sum(1).abs().max())


def read_logprobs(rollout: Rollout, rows: Tensor, hidden: Tensor, head: Head) -> Tensor:
    """log pi of the tokens of the completions `rows`, [b, T], from the states [N, H] before them; differentiable."""
    keep, kept = rollout.completion_mask[rows], select_rows(rollout.kept, rollout.completion_mask, rows)
    return unpack(token_logprobs(hidden, rollout.tokens[rows][keep], head, rollout.temperature, kept), keep)


@torch.no_grad()
def measure_distance(
    rollout: Rollout,
    engine: Engine,
    microbatch_size: int,
    tick: Tick,
    *,
    exact: bool = True,
    keep_hidden: bool = False,
    slopes: bool = False,
) -> Distance:
    """Let the reference read the rollout, and measure how far the policy is from it.

    `exact`: measure the exact KL and the entropy too, which takes one more product with the output layer and a softmax
    for every token. `keep_hidden`: keep the reference's hidden states. `slopes`: where the exact KL has the policy's
    logits, also differentiate what a loss may need by its hidden states: the log-probabilities, and with `keep_hidden`
    the KL.
    """
    mask = rollout.completion_mask
    ref_logprobs, kl, entropy = figures = [torch.zeros_like(rollout.logprobs) for _ in range(3)]
    wanted = 1 + keep_hidden if slopes and exact else 0
    jacobians = [torch.zeros_like(rollout.hidden) for _ in range(wanted)]
    ref_hidden: Tensor | None = None
    for rows in torch.arange(len(rollout.batch)).split(microbatch_size):
        keep = mask[rows]
        tokens = rollout.tokens[rows][keep]
        reference = engine.hidden(rollout, rows, reference=True)
        if exact:
            hidden, kept = rollout.hidden[rows][keep], select_rows(rollout.kept, mask, rows)
            measured = compare_distributions(
                hidden,
                reference,
                tokens,
                engine.head,
                rollout.temperature,
                kept,
                ref_head=engine.reference_head,
                slopes=wanted,
                by_row=engine.invariant,
            )
            for padded, packed in zip((*figures, *jacobians), measured, strict=True):
                padded[rows] = unpack(packed, keep)
        else:
            packed = token_logprobs(reference, tokens, engine.reference_head, rollout.temperature)
            ref_logprobs[rows] = unpack(packed, keep)
        if keep_hidden:
            ref_hidden = _room(rollout, reference) if ref_hidden is None else ref_hidden
            ref_hidden[rows] = unpack(reference, keep)
        tick()
    return Distance(
        ref_logprobs=ref_logprobs,
        kl=k1(rollout.logprobs, ref_logprobs),
        exact=Exact(kl, entropy) if exact else None,
        ref_hidden=ref_hidden,
        slopes=tuple(jacobians),
    )


@torch.no_grad()
def read_values(rollout: Rollout, engine: Engine, microbatch_size: int) -> Tensor:
    """The value head's value of every state, float32 [B, T], from the rollout's own hidden states."""
    values = torch.zeros_like(rollout.logprobs)
    for rows in torch.arange(len(rollout.batch)).split(microbatch_size):
        keep = rollout.completion_mask[rows]
        values[rows] = unpack(engine.values(rollout.hidden[rows][keep]), keep)
    return values


def _room(rollout: Rollout, hidden: Tensor) -> Tensor:
    """Zeros [B, T, H] for hidden states [N, H] of a rollout's tokens."""
    return hidden.new_zeros(*rollout.tokens.shape, hidden.shape[-1])


def unpack(values: Tensor, mask: Tensor) -> Tensor:
    """[N, ...] values of the positions where `mask` [b, T] is True, back in their places [b, T, ...]; zero elsewhere.

    Differentiable.
    """
    places = mask.view(*mask.shape, *[1] * (values.dim() - 1))
    return values.new_zeros(mask.shape + values.shape[1:]).masked_scatter(places, values)
