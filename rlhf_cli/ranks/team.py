"""The processes that calculate a run's shards: this one alone; `leader` has the one with others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rlhf_cli.engine import Engine
from rlhf_cli.engine.reference import AnyEngine
from rlhf_cli.models.policy import Policy
from rlhf_cli.ranks.sharding import load
from rlhf_cli.schema import RunConfig
from rlhf_cli.types import Tick

R = TypeVar("R")

Work = Callable[..., R]
"""(policy, engine, *part, tick=) -> the result of one shard. A module's function; it changes no weight."""


class Team:
    """This process alone."""

    size = 1
    """Processes."""

    def load(self, config: RunConfig, threads: int, note: Callable[[str], None]) -> tuple[Policy, AnyEngine]:
        """Load the model of a run here and in the others, as `load_models` does, each with so many threads."""
        return load(config, note, None)

    def map(
        self, policy: Policy, engine: Engine, work: Work[R], parts: Mapping[int, tuple[Any, ...]], tick: Tick
    ) -> list[R]:
        """Calculate shards, by their numbers; returns the results in this order. `tick` is for this process's own."""
        return [work(policy, engine, *part, tick=tick) for part in parts.values()]

    def close(self) -> None:
        """Let the others end."""
