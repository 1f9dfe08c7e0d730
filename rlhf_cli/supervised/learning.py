"""One step: the gradient of the loss over a batch, a microbatch at a time, and the update of the weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor

from rlhf_cli.engine import Engine
from rlhf_cli.errors import EXIT_NONFINITE
from rlhf_cli.pipeline.skipping import Skip
from rlhf_cli.pipeline.state import copy_tensors
from rlhf_cli.pipeline.update import NotFinite, apply, check_finite
from rlhf_cli.seeding import seed_for
from rlhf_cli.supervised.objectives import Objective
from rlhf_cli.supervised.objectives.objective import Batch, Reading
from rlhf_cli.supervised.run import SupervisedRun
from rlhf_cli.types import Tick


def learn(run: SupervisedRun, batch: Batch) -> dict[str, float]:
    """Update the weights by one step, and return its metrics.

    Raises Skip where it leads to numbers that are not finite; the caller undoes it.
    """
    config, step, parameters = run.config, run.state.step, run.policy.parameters()
    lr, seed = config.optimizer.lr_at(step, config.steps), seed_for(config.seed, "update", step, 0)

    def accumulated(size: int) -> dict[str, list[float]]:
        run.optimizer.zero_grad()
        with run.policy.dropout(seed):
            return accumulate_gradient(batch, config.objective, run.engine, size, tick)

    with run.work.phase("update", run.work.parts(len(batch.rollout.batch))) as tick:
        run.unfinished.before = copy_tensors(run.policy, run.optimizer)
        try:
            columns = run.work.fitting(accumulated)
            applied = apply(parameters, run.optimizer, lr, config.optimizer.max_grad_norm)
            check_finite(batch.rollout, run.engine, parameters)
        except NotFinite as error:
            fix = "resume with a lower learning rate: optimizer.lr=... resume_allow=[optimizer.lr]"
            raise Skip(str(error), fix, EXIT_NONFINITE) from error
    return config.objective.figures(columns) | applied


def accumulate_gradient(
    batch: Batch, objective: Objective, engine: Engine, microbatch_size: int, tick: Tick
) -> dict[str, list[float]]:
    """Add the gradient of the mean loss of the batch to the trained weights; returns the columns of its examples."""
    columns, whole = defaultdict[str, list[float]](list), objective.size(batch)
    for examples in microbatches(batch, microbatch_size):
        reading = objective.read(batch, examples, engine)
        (reading.losses.sum() / whole).backward()
        add_reading(columns, reading)
        tick()
    return columns


def microbatches(batch: Batch, microbatch_size: int) -> Iterator[Tensor]:
    """The examples of the batch, int64 [e]: as many at a time as have `microbatch_size` completions, at least one."""
    yield from torch.arange(len(batch)).split(max(1, microbatch_size // batch.each))


def add_reading(columns: defaultdict[str, list[float]], reading: Reading) -> None:
    """Append what was read of some examples."""
    for name, values in {"loss": reading.losses.detach(), **reading.columns}.items():
        columns[name] += values.tolist()
