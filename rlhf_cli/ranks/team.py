"""The processes that calculate a run's shards, and their duties: this one alone; `leader` has the one with others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from rlhf_cli.engine import Engine
from rlhf_cli.engine.opening import THREADS
from rlhf_cli.models.policy import Policy
from rlhf_cli.ranks.lockstep import Lockstep
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.types import Tick

R = TypeVar("R")
C = TypeVar("C", bound=TrainingConfig)
E = TypeVar("E", bound=Engine)

Work = Callable[..., R]
"""(policy, engine, *part, tick=) -> the result of one shard. A module's function; it changes no weight."""


@dataclass(frozen=True)
class Duties(Generic[C, E]):
    """The duties of every process of a verb: the model that it loads, and the works that it may be sent."""

    schema: type[C]
    """The type of the run's settings."""
    load: Callable[[C, Callable[[str], None], Lockstep | None], tuple[Policy, E]]
    """Loads the model, whole or this process's part of one that is used in lockstep; the function gets notes."""
    works: Mapping[str, Work[Any]]
    """Its works, by name."""


class Team:
    """This process alone."""

    size = 1
    """Processes."""

    def open(self, duties: Duties[C, E], config: C, note: Callable[[str], None]) -> tuple[Policy, E]:
        """Load the model of a run here and in the others, and set the threads of each, which share the machine's."""
        threads = config.threads or max(1, THREADS // self.size)
        found = self.load(duties, config, threads, note)
        torch.set_num_threads(threads)
        return found

    def load(self, duties: Duties[C, E], config: C, threads: int, note: Callable[[str], None]) -> tuple[Policy, E]:
        """Load the model here and in the others, each of which then has so many threads."""
        return duties.load(config, note, None)

    def map(
        self, policy: Policy, engine: Engine, work: Work[R], parts: Mapping[int, tuple[Any, ...]], tick: Tick
    ) -> list[R]:
        """Calculate shards, by their numbers; returns the results in this order. `tick` is for this process's own."""
        return [work(policy, engine, *part, tick=tick) for part in parts.values()]

    def close(self) -> None:
        """Let the others end."""
