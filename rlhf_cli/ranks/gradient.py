"""The gradient of a loss over some completions, shard by shard, and unit by unit in a shard.

Each unit's gradient is calculated by itself, and these are added in the order of the prompts.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.algorithms.placement import Placement
from rlhf_cli.engine import Engine
from rlhf_cli.engine.reading import read_logprobs, unpack
from rlhf_cli.engine.reference import native_engine
from rlhf_cli.errors import UserError
from rlhf_cli.functional.kl import token_kl
from rlhf_cli.functional.logprobs import attach
from rlhf_cli.functional.losses import k2_loss, sequence_k2_loss, token_weights
from rlhf_cli.functional.mismatch import sequence_weights
from rlhf_cli.functional.truncation import select_rows
from rlhf_cli.models.policy import Policy
from rlhf_cli.plural import some
from rlhf_cli.ranks.rollouts import row_weights, split_advantages
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import Advantages, Forward, Minibatch, Rollout, Scored

Gradient = tuple[Tensor | None, ...]
"""A tensor for each trained weight, in the order of their names; None where the loss does not depend on it."""


@dataclass(frozen=True, slots=True)
class Sums:
    """The metrics of the loss over some completions, as sums over their tokens."""

    totals: Mapping[str, float]
    gap: float
    """The largest difference of a completion's summed log-probabilities from those of the rollout, in nats."""


@dataclass(frozen=True, slots=True)
class UnitGradient:
    """The gradient of the loss over one unit."""

    gradient: Gradient
    sums: Sums


def split_rows(
    advantages: Advantages, weights: Tensor, rows: Tensor, blocks: Sequence[range]
) -> dict[int, tuple[Advantages, Tensor, Tensor]]:
    """Each block's part of an update, by number: its completions, the tokens' weights, its `rows` in their order.

    A block of prompts with none of the rows is left out.
    """
    parts, start = {}, 0
    for number, part in enumerate(split_advantages(advantages, blocks)):
        count, width = part.advantages.shape
        own = rows[(rows >= start) & (rows < start + count)] - start
        if len(own):
            parts[number] = part, weights[start : start + count, :width].contiguous(), own
        start += count
    return parts


def seed_of_shard(seed: int, number: int) -> int:
    """The seed of a shard's dropout; the first one has the update's own."""
    return seed_for(seed, "shard", number) if number else seed


def differentiate(
    policy: Policy,
    engine: Engine,
    advantages: Advantages,
    weights: Tensor,
    rows: Tensor,
    units: Sequence[int],
    algorithm: Algorithm,
    kl: Placement,
    size: int,
    seed: int,
    reuse: bool,
    *,
    tick: Callable[[], None],
) -> list[UnitGradient]:
    """The gradients of a shard's units of so many prompts; the weights are left without a gradient.

    `reuse`: take the forward pass from the rollout, which the native engine has remembered.
    """
    native = native_engine(engine) if reuse else None
    read = None if native is None else native.reuse
    found, blocks = [], [range(*ends) for ends in pairwise(accumulate(units, initial=0))]
    take_gradient(policy)
    with policy.dropout(seed):
        for part in split_rows(advantages, weights, rows, blocks).values():
            sums = sum_gradient(*part, algorithm, engine, kl=kl, microbatch_size=size, tick=tick, read=read)
            found.append(UnitGradient(take_gradient(policy), sums))
    return found


def take_gradient(policy: Policy) -> Gradient:
    """Take the gradient that the trained weights have by now; they are left without one."""
    parameters = policy.parameters().values()
    found = tuple(parameter.grad for parameter in parameters)
    for parameter in parameters:
        parameter.grad = None
    return found


def add_gradients(policy: Policy, units: Sequence[Sequence[Tensor | None]]) -> None:
    """Leave the sum of the units' gradients in the weights, added in their order."""
    for parameter, *gradients in zip(policy.parameters().values(), *units, strict=True):
        known = [gradient for gradient in gradients if gradient is not None]
        parameter.grad = reduce(torch.add, known) if known else None


def check_gradients(policy: Policy) -> None:
    """Raise UserError where a trained weight has no gradient: sharding a model is one way to lose it."""
    parameters = policy.parameters()
    if missing := [name for name, parameter in parameters.items() if parameter.grad is None]:
        raise UserError(
            f"{len(missing)} of {len(parameters)} trained weights have no gradient: {some(missing)}",
            where="shard_model",
            fix="shard_model=false, or leave their layers out of model.lora.target_modules",
        )


def join_sums(units: Sequence[Sums], tokens: int) -> dict[str, float]:
    """The loss, and the means over `tokens` of the other metrics.

    `sampler/gap` is the largest of the units'; before the first update it should be rounding error.
    """
    totals = Counter[str]()
    for sums in units:
        totals.update(sums.totals)
    means = {name: value if name == "loss" else value / tokens for name, value in totals.items()}
    return means | {"sampler/gap": max(sums.gap for sums in units)}


def sum_gradient(
    advantages: Advantages,
    weights: Tensor,
    rows: Tensor,
    algorithm: Algorithm,
    engine: Engine,
    *,
    kl: Placement,
    microbatch_size: int,
    tick: Callable[[], None],
    read: Callable[[Rollout, Tensor], Tensor] | None = None,
) -> Sums:
    """Add the gradient of the loss over `rows` to the trained weights; `weights` [B, T] are those of `weigh_tokens`.

    `read` gives the policy's states, as `Engine.hidden` does, but as they were when it sampled, of which
    `Distance.slopes` may be known; None: the engine's own forward pass.
    """
    scored, rollout = advantages.scored, advantages.scored.rollout
    totals, gaps = Counter[str](), []
    for part in rows.split(microbatch_size):
        keep = rollout.completion_mask[part]
        hidden = (read or engine.hidden)(rollout, part)
        slopes = [] if read is None else [known[part][keep] for known in scored.distance.slopes]
        if slopes:
            logprobs = unpack(attach(rollout.logprobs[part][keep], hidden, slopes[0]), keep)
        else:
            logprobs = read_logprobs(rollout, part, hidden, engine.head)
        forward = Forward(logprobs, unpack(engine.values(hidden), keep) if algorithm.needs_value else None)
        minibatch = _take_rows(advantages, weights, part)
        result = algorithm.loss(minibatch, forward)
        loss = result.loss
        if kl != "reward":
            loss = loss + scored.beta * _kl_loss(kl, scored, part, forward, minibatch.weights, hidden, slopes, engine)
        loss.backward()
        totals.update({"loss": float(loss.detach()), **result.metrics})
        gaps.append((forward.logprobs.detach() - minibatch.logprobs).sum(1).abs().max())
        tick()
    return Sums(totals, float(torch.stack(gaps).max()))


def _kl_loss(
    kl: Placement,
    scored: Scored,
    part: Tensor,
    forward: Forward,
    weights: Tensor,
    hidden: Tensor,
    slopes: Sequence[Tensor],
    engine: Engine,
) -> Tensor:
    """The KL of the completions `part` as a loss, where `kl` puts it there; `slopes` are known as in `sum_gradient`."""
    rollout, distance = scored.rollout, scored.distance
    if kl == "loss_k2":
        return k2_loss(forward.logprobs, distance.ref_logprobs[part], weights)
    if kl == "loss_k2_sequence":
        return sequence_k2_loss(forward.logprobs, distance.ref_logprobs[part], weights)
    keep = rollout.completion_mask[part]
    if slopes:
        assert distance.exact is not None
        exact = attach(distance.exact.kl[part][keep], hidden, slopes[1])
    else:
        assert distance.ref_hidden is not None
        states, head, temperature = distance.ref_hidden[part][keep], engine.head, rollout.temperature
        kept = select_rows(rollout.kept, rollout.completion_mask, part)
        other = engine.reference_head
        exact = token_kl(hidden, states, head, temperature, kept, ref_head=other, by_row=engine.invariant)
    return (weights[keep] * exact).sum()


def accumulate_gradient(
    advantages: Advantages,
    rows: Tensor,
    algorithm: Algorithm,
    engine: Engine,
    *,
    kl: Placement,
    max_new_tokens: int,
    microbatch_size: int,
    tick: Callable[[], None],
) -> dict[str, float]:
    """Add the gradient of the loss over the completions `rows` to the trained weights; returns the loss's metrics."""
    weights = weigh_tokens(advantages.scored, rows, algorithm, max_new_tokens)
    sums = sum_gradient(advantages, weights, rows, algorithm, engine, kl=kl, microbatch_size=microbatch_size, tick=tick)
    return join_sums([sums], int(advantages.scored.rollout.completion_mask[rows].sum()))


def weigh_tokens(scored: Scored, rows: Tensor, algorithm: Algorithm, max_new_tokens: int) -> Tensor:
    """The weight of every token in the loss over the completions `rows`, [B, T]; zero for all other completions.

    The weight of a prompt multiplies those of its tokens, and not the number that a mean is over.
    """
    rollout = scored.rollout
    weights = torch.zeros_like(rollout.logprobs)
    weights[rows] = token_weights(rollout.completion_mask[rows], algorithm.aggregation, max_new_tokens).to(weights)
    if scored.log_weights is not None:
        weights = weights * sequence_weights(scored.log_weights).unsqueeze(1)
    if (drawn := row_weights(rollout.batch)) is not None:
        weights = weights * drawn.to(weights).unsqueeze(1)
    return weights


def _take_rows(advantages: Advantages, weights: Tensor, rows: Tensor) -> Minibatch:
    """Select the part of the rollout that the loss reads: the completions `rows`."""
    scored, returns = advantages.scored, advantages.returns
    return Minibatch(
        logprobs=scored.rollout.logprobs[rows],
        advantages=advantages.advantages[rows],
        weights=weights[rows],
        values=None if scored.values is None else scored.values[rows],
        returns=None if returns is None else returns[rows],
    )
