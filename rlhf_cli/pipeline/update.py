"""Update the weights from advantages: as many updates as the algorithm asks for, a microbatch at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.algorithms.placement import Placement
from rlhf_cli.engine import Engine
from rlhf_cli.engine.reading import measure_gap, unpack
from rlhf_cli.errors import EXIT_NONFINITE
from rlhf_cli.functional.kl import token_kl
from rlhf_cli.functional.logprobs import token_logprobs
from rlhf_cli.functional.losses import k2_loss, sequence_k2_loss, token_weights
from rlhf_cli.functional.mismatch import sequence_weights
from rlhf_cli.functional.truncation import select_rows
from rlhf_cli.pipeline.run import Run, reusing_engine
from rlhf_cli.pipeline.skipping import Skip
from rlhf_cli.pipeline.state import copy_tensors
from rlhf_cli.seeding import permutation, seed_for
from rlhf_cli.types import Advantages, Forward, Minibatch, Rollout, Scored

Read = Callable[[Rollout, Tensor], Tensor]
"""A pass that gives the hidden states of some completions, int64 rows, as `Engine.hidden` does."""


class NotFinite(ArithmeticError):
    """An update led, or would lead, to numbers that are not finite."""


def update(run: Run, advantages: Advantages) -> dict[str, float]:
    """Take every update of this rollout, one or several, and return their metrics.

    Raises Skip where they lead to numbers that are not finite; the caller undoes them.
    """
    config, step = run.config, run.state.step
    learnable = advantages.scored.learnable.nonzero().squeeze(1).cpu()
    plan = [learnable[part] for part in split_rollout(len(learnable), config.algorithm, config.seed, step)]
    lr, parameters, updates = config.optimizer.lr_at(step, config.steps), run.policy.parameters(), []
    reusing = reusing_engine(run)
    with run.work.phase("update", sum(run.work.parts(len(rows)) for rows in plan)) as tick:
        run.unfinished.before = copy_tensors(run.policy, run.optimizer)
        try:
            for number, rows in enumerate(plan):
                read = reusing.reuse if reusing is not None and number == 0 else None
                seed = seed_for(config.seed, "update", step, number)
                learned = compute_gradient(run, advantages, rows, seed, tick, read)
                if reusing is not None and number == 0:
                    reusing.forget()
                    row = rows[step % len(rows)].view(1)  # one completion a step shows whether the two still agree
                    learned["sampler/gap"] = measure_gap(advantages.scored.rollout, run.engine, row)
                updates.append(learned | apply(parameters, run.optimizer, lr, config.optimizer.max_grad_norm))
            check_finite(advantages.scored.rollout, run.engine, parameters)
        except NotFinite as error:
            fix = "resume with a lower learning rate: optimizer.lr=... resume_allow=[optimizer.lr]"
            raise Skip(str(error), fix, EXIT_NONFINITE, batch=advantages) from error
    learned = summarise(updates)
    if config.model.lora.dropout:  # only the update has dropout, so its gap says nothing about the sampler
        del learned["sampler/gap"]
    return learned


def compute_gradient(
    run: Run, advantages: Advantages, rows: Tensor, seed: int, tick: Callable[[], None], read: Read | None = None
) -> dict[str, float]:
    """Leave the gradient of one update in the weights; returns the loss's metrics. `seed` is for the dropout."""

    def accumulated(size: int) -> dict[str, float]:
        run.optimizer.zero_grad()
        with run.policy.dropout(seed):
            return accumulate_gradient(
                advantages,
                rows,
                run.config.algorithm,
                run.engine,
                kl=run.config.kl,
                max_new_tokens=run.config.max_new_tokens,
                microbatch_size=size,
                tick=tick,
                read=read,
            )

    return run.work.fitting(accumulated)


def split_rollout(completions: int, algorithm: Algorithm, seed: int, step: int) -> Iterator[Tensor]:
    """The rows of each update, int64 [b], epoch after epoch.

    The whole rollout in its own order; or where it is divided, a new permutation each epoch, a pure function of seed,
    step and epoch, in as few parts as fit into `minibatch_size` and as even as they come: a small remainder would
    weigh as much as a whole minibatch.
    """
    parts = -(-completions // (algorithm.minibatch_size or completions))
    for epoch in range(algorithm.epochs):
        rows = torch.arange(completions)
        if parts > 1:
            rows = torch.tensor(permutation(completions, seed_for(seed, "minibatches", step, epoch)))
        yield from rows.tensor_split(parts)


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
    read: Read | None = None,
) -> dict[str, float]:
    """Add the gradient of the loss over the completions `rows` to the trained weights; returns the loss's metrics.

    `read` gives the policy's states; None: the engine's own forward pass.
    `sampler/gap` is the largest difference, over completions, between the summed log-probabilities of this pass and
    those of the rollout, in nats. Before the first update it should be rounding error.
    """
    scored, rollout, distance = advantages.scored, advantages.scored.rollout, advantages.scored.distance
    weights = _weigh_tokens(scored, rows, algorithm, max_new_tokens)
    totals, gaps, read = Counter[str](), [], read or engine.hidden
    for part in rows.split(microbatch_size):
        keep = rollout.completion_mask[part]
        hidden, kept = read(rollout, part), select_rows(rollout.kept, rollout.completion_mask, part)
        packed = token_logprobs(hidden, rollout.tokens[part][keep], engine.head, rollout.temperature, kept)
        forward = Forward(
            logprobs=unpack(packed, keep),
            values=unpack(engine.values(hidden), keep) if algorithm.needs_value else None,
        )
        minibatch = _take_rows(advantages, weights, part)
        result = algorithm.loss(minibatch, forward)
        loss = result.loss
        if kl == "loss_k2":
            loss = loss + scored.beta * k2_loss(forward.logprobs, distance.ref_logprobs[part], minibatch.weights)
        elif kl == "loss_k2_sequence":
            own = sequence_k2_loss(forward.logprobs, distance.ref_logprobs[part], minibatch.weights)
            loss = loss + scored.beta * own
        elif kl == "exact":
            assert distance.ref_hidden is not None
            exact = token_kl(hidden, distance.ref_hidden[part][keep], engine.head, rollout.temperature, kept)
            loss = loss + scored.beta * (minibatch.weights[keep] * exact).sum()
        loss.backward()
        totals.update({"loss": float(loss.detach()), **result.metrics})
        gaps.append((forward.logprobs.detach() - minibatch.logprobs).sum(1).abs().max())
        tick()
    tokens = int(rollout.completion_mask[rows].sum())
    means = {name: value if name == "loss" else value / tokens for name, value in totals.items()}
    return means | {"sampler/gap": float(torch.stack(gaps).max())}


def _weigh_tokens(scored: Scored, rows: Tensor, algorithm: Algorithm, max_new_tokens: int) -> Tensor:
    """The weight of every token in the loss over the completions `rows`, [B, T]; zero for all other completions."""
    rollout = scored.rollout
    weights = torch.zeros_like(rollout.logprobs)
    weights[rows] = token_weights(rollout.completion_mask[rows], algorithm.aggregation, max_new_tokens).to(weights)
    if scored.log_weights is not None:
        weights = weights * sequence_weights(scored.log_weights).unsqueeze(1)
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


def apply(
    parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, lr: float, max_grad_norm: float
) -> dict[str, float]:
    """Clip the gradient to `max_grad_norm`, take one step at `lr`, clear it; returns the norm before clipping.

    Raises NotFinite for a gradient that is not finite; the weights are then as they were before this update, and the
    caller undoes the rollout's earlier updates.
    """
    norm = float(nn.utils.clip_grad_norm_(parameters.values(), max_grad_norm))
    if not math.isfinite(norm):
        optimizer.zero_grad()
        raise NotFinite("the gradient is not finite")
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad()
    return {"grad_norm": norm, "lr": lr}


@torch.no_grad()
def check_finite(rollout: Rollout, engine: Engine, parameters: dict[str, nn.Parameter]) -> None:
    """Raise NotFinite where the new weights, or their logits of the first completion, are not finite."""
    if not all(bool(parameter.isfinite().all()) for parameter in parameters.values()):
        raise NotFinite("the weights would not be finite")
    hidden = engine.hidden(rollout, torch.tensor([0]))
    if not bool(engine.head(hidden[-1:]).isfinite().all()):
        raise NotFinite("the policy's probabilities would not be finite")


def summarise(updates: list[dict[str, float]]) -> dict[str, float]:
    """The means of the updates' metrics; but the sampler's gap of the first update, before any weight changed."""
    means = {name: sum(update[name] for update in updates) / len(updates) for name in updates[0]}
    return means | {"sampler/gap": updates[0]["sampler/gap"]}
