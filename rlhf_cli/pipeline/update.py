"""Update the weights from advantages: as many updates as the algorithm asks for, a microbatch at a time."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.engine import Engine
from rlhf_cli.engine.memory import CPU_TOKENS, whole_groups
from rlhf_cli.engine.reading import measure_gap
from rlhf_cli.errors import EXIT_NONFINITE, EXIT_REWARD
from rlhf_cli.pipeline.run import Run, reusing_engine
from rlhf_cli.pipeline.skipping import Skip
from rlhf_cli.pipeline.state import copy_tensors
from rlhf_cli.plural import plural
from rlhf_cli.ranks.gradient import (
    UnitGradient,
    add_gradients,
    check_gradients,
    differentiate,
    join_sums,
    seed_of_shard,
    split_rows,
    weigh_tokens,
)
from rlhf_cli.seeding import permutation, seed_for
from rlhf_cli.types import Advantages, PromptBatch, Rollout


class NotFinite(ArithmeticError):
    """An update led, or would lead, to numbers that are not finite."""


def update(run: Run, advantages: Advantages) -> dict[str, float]:
    """Take every update of this rollout, one or several, and return their metrics.

    Raises Skip where they lead to numbers that are not finite, and the caller undoes them; or where prompts=dynamic has
    left no completion to learn from.
    """
    config, step = run.config, run.state.step
    learnable = advantages.scored.learnable.nonzero().squeeze(1).cpu()
    if not len(learnable):
        groups = plural(len(advantages.scored.rollout.batch.prompts), "group")
        reason = f"none of {groups} has different scores (max_rollouts={config.max_rollouts})"
        more = "resume with a higher max_rollouts: max_rollouts=... resume_allow=[max_rollouts]"
        fix = f"see the scores by rlhf reward test; take other prompts or a higher samples_per_prompt, or {more}"
        raise Skip(reason, fix, EXIT_REWARD, batch=advantages)
    plan = [learnable[part] for part in split_rollout(len(learnable), config.algorithm, config.seed, step)]
    lr, parameters, updates = config.optimizer.lr_at(step, config.steps), run.policy.parameters(), []
    reusing = reusing_engine(run)
    batch, size = advantages.scored.rollout.batch, update_size(run, advantages, run.work.microbatch_size)
    with run.work.phase("update", sum(run.shards.updates(batch, size, rows) for rows in plan)) as tick:
        run.unfinished.before = copy_tensors(run.policy, run.optimizer)
        try:
            for number, rows in enumerate(plan):
                seed = seed_for(config.seed, "update", step, number)
                reuse = reusing is not None and number == 0 and keeps_shards(run, batch)
                learned = compute_gradient(run, advantages, rows, seed, tick, reuse=reuse)
                if reusing is not None and reuse:
                    reusing.forget()
                    row = rows[step % len(rows)].view(1)  # one completion a step shows whether the two still agree
                    learned["sampler/gap"] = measure_gap(advantages.scored.rollout, run.engine, row)
                updates.append(learned | apply(parameters, run.optimizer, lr, config.optimizer.max_grad_norm))
            run.shards.here(lambda: check_finite(advantages.scored.rollout, run.engine, parameters))
        except NotFinite as error:
            fix = "resume with a lower learning rate: optimizer.lr=... resume_allow=[optimizer.lr]"
            raise Skip(str(error), fix, EXIT_NONFINITE, batch=advantages) from error
    learned = summarise(updates)
    if config.model.lora.dropout:  # only the update has dropout, so its gap says nothing about the sampler
        del learned["sampler/gap"]
    return learned


def keeps_shards(run: Run, batch: PromptBatch) -> bool:
    """Whether each shard has the prompts that it sampled, as none was left out for want of a score.

    A single shard has them in any case; but with units the bytes must not depend on the number of shards.
    """
    shards = run.shards
    return (shards.count == 1 and not shards.units) or len(batch.prompts) == run.config.prompts_per_step


def update_size(run: Run, advantages: Advantages, fitting: int) -> int:
    """The completions of a microbatch of an update: `fitting`, as many as the memory holds.

    With units at most as many as follow from the batch: so neither more memory nor a larger setting changes a byte.
    """
    if not run.shards.units:
        return fitting
    batch = advantages.scored.rollout.batch
    longest = max(len(prompt.tokens) for prompt in batch.prompts) + run.config.max_new_tokens
    return min(fitting, whole_groups(CPU_TOKENS // longest, batch.samples_per_prompt))


def compute_gradient(
    run: Run, advantages: Advantages, rows: Tensor, seed: int, tick: Callable[[], None], *, reuse: bool = False
) -> dict[str, float]:
    """Leave the gradient of one update in the weights; returns the loss's metrics. `seed` is for the dropout.

    `reuse`: take the forward pass from the rollout.
    """
    config, mask = run.config, advantages.scored.rollout.completion_mask
    weights = weigh_tokens(advantages.scored, rows, config.algorithm, config.max_new_tokens)
    prompts = len(advantages.scored.rollout.batch.prompts)
    shards = split_rows(advantages, weights, rows, run.shards.blocks(prompts))
    units = [[len(unit) for unit in dealt] for dealt in run.shards.deal(prompts)]

    def accumulated(size: int) -> list[UnitGradient]:
        size = update_size(run, advantages, size)
        parts = {
            number: (*shard, units[number], config.algorithm, config.kl, size, seed_of_shard(seed, number), reuse)
            for number, shard in shards.items()
        }
        return [unit for found in run.shards.map(differentiate, parts, tick) for unit in found]

    found = run.work.fitting(accumulated)
    add_gradients(run.policy, [unit.gradient for unit in found])
    if config.shard_model:
        check_gradients(run.policy)
    return join_sums([unit.sums for unit in found], int(mask[rows].sum()))


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
