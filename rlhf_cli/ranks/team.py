"""The processes that calculate a run's shards: their duties, and that they are alike.

`Team` is this process alone; `leader` has the one with others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import torch

from rlhf_cli.engine import Engine
from rlhf_cli.engine.opening import THREADS
from rlhf_cli.engine.reference import TwoModels, native_engine
from rlhf_cli.errors import UserError
from rlhf_cli.models.memory import processor_of
from rlhf_cli.models.policy import Policy
from rlhf_cli.ranks.lockstep import Lockstep
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.types import Tick

R = TypeVar("R")
C = TypeVar("C", bound=TrainingConfig)
E = TypeVar("E", bound=Engine)

Task = Callable[..., R]
"""(policy, engine, *part, tick=) -> the result of one shard. A module's function; it changes no weight."""


SAME: Final = ("model", "reference", "tokenizer")
"""Keys of `describe` in which all processes have to agree."""


@dataclass(frozen=True)
class Duties(Generic[C, E]):
    """The duties of every process of a verb: the model that it loads, and the tasks that it may be sent."""

    schema: type[C]
    """The type of the run's settings."""
    load: Callable[[C, Callable[[str], None], Lockstep | None], tuple[Policy, E]]
    """Loads the model, whole or this process's part of one that is used in lockstep; the function gets notes."""
    tasks: tuple[Task[Any], ...]


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
        self, policy: Policy, engine: Engine, task: Task[R], parts: Mapping[int, tuple[Any, ...]], tick: Tick
    ) -> list[R]:
        """Calculate shards, by their numbers; returns the results in this order. `tick` is for this process's own."""
        return [task(policy, engine, *part, tick=tick) for part in parts.values()]

    def close(self) -> None:
        """Let the others end."""


def describe(policy: Policy, engine: Engine, *, tick: Tick) -> dict[str, str]:
    """The properties of a process that the numbers of its shards depend on; a task that any process may be sent."""
    return {
        "model": policy.fingerprint,
        "reference": engine.other.policy.fingerprint if isinstance(engine, TwoModels) else "",
        "tokenizer": policy.text_fingerprint,
        "engine": f"{'transformers' if native_engine(engine) is None else 'native'}, invariant={engine.invariant}",
        "processor": processor_of(policy.device),
        "torch": torch.__version__,
    }


def check_alike(described: Sequence[Mapping[str, str]], note: Callable[[str], None]) -> None:
    """Note where a process differs from the first, by `describe`; raises UserError where a key of SAME does."""
    first, *others = described
    for rank, other in enumerate(others, start=1):
        for name in (name for name in first if other[name] != first[name]):
            if name in SAME:
                raise UserError(f"rank {rank} has another {name}", where="model", fix="give all hosts the same files")
            what = f"rank {rank} has another {name} ({other[name]}, and rank 0 {first[name]})"
            note(f"{what}: the run's bytes depend on which process calculates what")
