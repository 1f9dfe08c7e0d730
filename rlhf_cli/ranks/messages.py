"""The messages between a run's first process and the others: an order, and its answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Opening:
    """Open the policy of these settings, as plain data, with so many threads; it has no answer."""

    config: Mapping[str, Any]
    threads: int


@dataclass(frozen=True, slots=True)
class Order:
    """Calculate shards."""

    number: int
    """The number of the order; its answer has it too."""
    weights: Sequence[Tensor] | None
    """The trained weights, in the order of their names; None where they are as before."""
    task: str
    """The name of one of the tasks of the verb's `Duties`."""
    parts: Sequence[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason for which there are no results."""

    kind: Literal["memory", "user", "bug", "follows"]
    """Out of memory, a mistake of the user, or any other error; `follows`: one that follows from another process's."""
    what: str
    """The error's message, or the traceback of a bug."""
    where: str = ""
    fix: str = ""
    exit_code: int = 1
    torn: bool = False
    """Whether it came in the middle of a pass of a sharded model: this process ends."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The results of an order's parts, or why there are none."""

    number: int
    results: Sequence[Any] | Failure


def heart(rank: int) -> str:
    """The key of the store that counts the heartbeats of a process."""
    return f"rlhf/heart/{rank}"
