"""The work on the examples of a batch, shard by shard: each is read by whichever process it is dealt to.

An example's figures depend on its own shard alone, and on no process: `rlhf_cli/ranks` deals and gathers.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

import torch
from pydantic import TypeAdapter
from torch import Tensor

from rlhf_cli.engine import Engine
from rlhf_cli.models.policy import Policy
from rlhf_cli.ranks.gradient import Gradient, take_gradient
from rlhf_cli.ranks.rollouts import select_prompts
from rlhf_cli.ranks.shards import Shards
from rlhf_cli.supervised.objectives import Objective
from rlhf_cli.supervised.objectives.objective import Batch, Reading
from rlhf_cli.types import Tick

Figures = dict[str, list[float]]
"""Figures by name, one value an example."""

_OBJECTIVE: Final[TypeAdapter[Objective]] = TypeAdapter(Objective)


def split_batch(batch: Batch, blocks: Sequence[range]) -> list[Batch]:
    """Cut a batch into the examples of each block."""
    prompts = len(batch.rollout.batch.prompts) // len(batch)  # of an example: one, or one for each completion
    cut = [select_prompts(batch.rollout, range(one.start * prompts, one.stop * prompts)) for one in blocks]
    return [
        Batch(rollout, batch.each, batch.shares[block.start : block.stop], batch.margins[block.start : block.stop])
        for rollout, block in zip(cut, blocks, strict=True)
    ]


def deal_batch(batch: Batch, objective: Objective, shards: Shards) -> list[tuple[Any, ...]]:
    """The parts of a batch, one a shard, as `learn_shard` and `judge_shard` take them first: data that can travel."""
    settings = objective.model_dump(mode="json")
    dealt = split_batch(batch, shards.blocks(len(batch)))
    return [(tuple(getattr(part, one.name) for one in fields(part)), settings) for part in dealt]


def join_figures(parts: Sequence[Mapping[str, Sequence[float]]]) -> Figures:
    """The figures of all parts, part after part."""
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}


def passes(shards: Shards, batch: Batch, size: int) -> int:
    """The microbatches of up to `size` completions in which this process reads a batch."""
    return sum(-(-len(block) // _at_once(batch.each, size)) for block in shards.own(len(batch)))


def learn_shard(
    policy: Policy,
    engine: Engine,
    batch: tuple[Any, ...],
    objective: Mapping[str, Any],
    whole: int,
    size: int,
    seed: int,
    *,
    tick: Tick,
) -> tuple[Gradient, Figures]:
    """The gradient of a shard's part of the mean loss over `whole`, and the figures of its examples.

    `seed` is that of its dropout, `size` the completions of a microbatch. The weights are left without a gradient.
    """
    take_gradient(policy)
    with policy.dropout(seed):
        figures = accumulate_gradient(Batch(*batch), _OBJECTIVE.validate_python(objective), engine, whole, size, tick)
    return take_gradient(policy), figures


def judge_shard(
    policy: Policy, engine: Engine, batch: tuple[Any, ...], objective: Mapping[str, Any], size: int, *, tick: Tick
) -> Figures:
    """The figures of a shard's held-out examples."""
    own, judge = Batch(*batch), _OBJECTIVE.validate_python(objective).judge
    figures = defaultdict[str, list[float]](list)
    for examples in microbatches(own, size):
        _add_reading(figures, judge(own, examples, engine))
        tick()
    return dict(figures)


def accumulate_gradient(
    batch: Batch, objective: Objective, engine: Engine, whole: int, microbatch_size: int, tick: Tick
) -> Figures:
    """Add the gradient of the batch's losses, divided by `whole`, to the trained weights; returns its figures."""
    figures = defaultdict[str, list[float]](list)
    for examples in microbatches(batch, microbatch_size):
        reading = objective.read(batch, examples, engine)
        (reading.losses.sum() / whole).backward()
        _add_reading(figures, reading)
        tick()
    return dict(figures)


def microbatches(batch: Batch, microbatch_size: int) -> Iterator[Tensor]:
    """The examples of the batch, int64 [e]: as many at a time as have `microbatch_size` completions, at least one."""
    yield from torch.arange(len(batch)).split(_at_once(batch.each, microbatch_size))


def _at_once(each: int, microbatch_size: int) -> int:
    return max(1, microbatch_size // each)


def _add_reading(figures: defaultdict[str, list[float]], reading: Reading) -> None:
    """Append the losses and the other figures of some examples."""
    for name, values in {"loss": reading.losses.detach(), **reading.columns}.items():
        figures[name] += values.tolist()
