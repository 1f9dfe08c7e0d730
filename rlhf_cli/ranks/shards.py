"""A run's work on a batch, shard by shard: each is sampled and read by itself, by whichever process it is dealt to.

A shard's numbers depend on its own completions alone. The number of shards is a setting, so they do not depend on the
number of processes.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import torch
from torch import Tensor

from rlhf_cli.engine import Engine
from rlhf_cli.engine.reading import measure_distance, read_values, recompute_logprobs
from rlhf_cli.engine.reference import native_engine
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models.policy import Policy
from rlhf_cli.ranks.dealing import deal_units, rank_of
from rlhf_cli.ranks.rollouts import join_rollouts, select_prompts, stack, take_prompts
from rlhf_cli.ranks.team import Task, Team
from rlhf_cli.types import Distance, Exact, PromptBatch, Rollout, Tick

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Shards:
    """The shards of a run's batches, and the processes that calculate them."""

    policy: Policy
    engine: Engine
    team: Team
    count: int
    """Shards that a batch is dealt to; a batch of fewer prompts has fewer."""
    units: int = 0
    """Units of a batch, which no shard divides; zero: each shard is a unit."""

    def map(self, task: Task[R], parts: Mapping[int, tuple[Any, ...]], tick: Tick) -> list[R]:
        """Calculate shards by their numbers, as `Team.map` does."""
        return self.team.map(self.policy, self.engine, task, parts, tick)

    def deal(self, prompts: int) -> list[list[range]]:
        """The prompts of each shard's units."""
        return deal_units(prompts, self.count, self.units)

    def blocks(self, prompts: int) -> list[range]:
        """The prompts of each shard."""
        return [range(units[0].start, units[-1].stop) for units in self.deal(prompts)]

    def own(self, prompts: int) -> list[range]:
        """The prompts of each shard that this process calculates of a batch."""
        return self._own(self.blocks(prompts))

    def _own(self, shards: Sequence[R]) -> list[R]:
        return [shard for number, shard in enumerate(shards) if rank_of(number, self.team.size) == 0]

    def passes(self, batch: PromptBatch, size: int) -> int:
        """The microbatches of up to `size` completions in which this process reads a batch."""
        return sum(-(-len(block) * batch.samples_per_prompt // size) for block in self.own(len(batch.prompts)))

    def updates(self, batch: PromptBatch, size: int, rows: Tensor) -> int:
        """The microbatches of up to `size` completions in which this process learns from some rows of a batch."""
        counts = Counter(row // batch.samples_per_prompt for row in rows.tolist())
        own = [block for units in self._own(self.deal(len(batch.prompts))) for block in units]
        return sum(-(-sum(counts[prompt] for prompt in block) // size) for block in own)

    def sample(
        self,
        batch: PromptBatch,
        sampling: Sampling,
        tick: Tick,
        *,
        reference: bool = False,
        remember: int | None = None,
    ) -> Rollout:
        """Sample a completion for every seed of the batch, as the engine does; `remember` is the native engine's."""
        batches = [take_prompts(batch, block) for block in self.blocks(len(batch.prompts))]
        parts = {number: (part, sampling, reference, remember) for number, part in enumerate(batches)}
        found = self.map(sample_shard, parts, tick)
        return self._join(found, batches)

    def recompute(self, rollout: Rollout, size: int, tick: Tick, *, reference: bool = False) -> tuple[Rollout, Tensor]:
        """Replace the sampler's log-probabilities and states by the trainer's, as `recompute_logprobs` does."""
        parts = self._split(rollout)
        found = self.map(recompute_shard, {n: (part, size, reference) for n, part in enumerate(parts)}, tick)
        joined = self._join([part for part, _ in found], [part.batch for part in parts])
        return joined, torch.cat([log_weights for _, log_weights in found])

    def measure(
        self,
        rollout: Rollout,
        size: int,
        tick: Tick,
        *,
        exact: bool = True,
        keep_hidden: bool = False,
        slopes: bool = False,
    ) -> Distance:
        """Let the reference read the rollout, as `measure_distance` does."""
        parts = {number: (part, size, exact, keep_hidden, slopes) for number, part in enumerate(self._split(rollout))}
        found = self.map(measure_shard, parts, tick)
        exacts = [distance.exact for distance in found if distance.exact is not None]
        states = [distance.ref_hidden for distance in found if distance.ref_hidden is not None]
        return Distance(
            ref_logprobs=stack([distance.ref_logprobs for distance in found]),
            kl=stack([distance.kl for distance in found]),
            exact=Exact(stack([one.kl for one in exacts]), stack([one.entropy for one in exacts])) if exacts else None,
            ref_hidden=stack(states) if states else None,
            slopes=tuple(map(stack, zip(*(distance.slopes for distance in found), strict=True))),
        )

    def values(self, rollout: Rollout, size: int) -> Tensor:
        """The value head's value of every state, as `read_values` reads it."""
        parts = {number: (part, size) for number, part in enumerate(self._split(rollout))}
        found = self.map(value_shard, parts, lambda: None)
        return stack(found)

    def here(self, action: Callable[[], R]) -> R:
        """Do something with the model that is this process's alone; others take part where they hold weights."""
        done: list[R] = self.map(act, {0: (action,)}, lambda: None)
        return done[0]

    def _split(self, rollout: Rollout) -> list[Rollout]:
        return [select_prompts(rollout, block) for block in self.blocks(len(rollout.batch.prompts))]

    def _join(self, parts: Sequence[Rollout], batches: Sequence[PromptBatch]) -> Rollout:
        """Join rollouts of these batches; one that comes from another process has lost the rows of its prompts."""
        own = [replace(part, batch=batch) for part, batch in zip(parts, batches, strict=True)]
        return join_rollouts(own, self.policy.pad_token)


def sample_shard(
    policy: Policy,
    engine: Engine,
    batch: PromptBatch,
    sampling: Sampling,
    reference: bool,
    remember: int | None,
    *,
    tick: Tick,
) -> Rollout:
    """Sample a shard."""
    native = native_engine(engine)
    if remember is not None and native is not None:
        return native.sample(batch, sampling, tick, remember=remember)
    return engine.sample(batch, sampling, tick, reference=reference)


def recompute_shard(
    policy: Policy, engine: Engine, rollout: Rollout, size: int, reference: bool, *, tick: Tick
) -> tuple[Rollout, Tensor]:
    """Let the trainer read a shard."""
    return recompute_logprobs(rollout, engine, size, tick, reference=reference)


def measure_shard(
    policy: Policy,
    engine: Engine,
    rollout: Rollout,
    size: int,
    exact: bool,
    keep_hidden: bool,
    slopes: bool,
    *,
    tick: Tick,
) -> Distance:
    """Let the reference read a shard."""
    return measure_distance(rollout, engine, size, tick, exact=exact, keep_hidden=keep_hidden, slopes=slopes)


def value_shard(policy: Policy, engine: Engine, rollout: Rollout, size: int, *, tick: Tick) -> Tensor:
    """Let the value head read a shard."""
    return read_values(rollout, engine, size)


def act(policy: Policy, engine: Engine, action: Callable[[], R], *, tick: Tick) -> R:
    """Do something; only the first process has an action."""
    return action()


TASKS: Final = (sample_shard, recompute_shard, measure_shard, value_shard, act)
