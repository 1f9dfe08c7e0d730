"""Gather the processes of a run: those that torchrun started, or children of this one.

It imports no torch, so that the children start while this process imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rlhf_cli.errors import UserError
from rlhf_cli.plural import plural
from rlhf_cli.ranks.children import GRACE_S, Children, place
from rlhf_cli.schema import TrainingConfig

if TYPE_CHECKING:
    from rlhf_cli.ranks.team import Team

C = TypeVar("C", bound=TrainingConfig)


def seat(config: C) -> C:
    """The config with the number of processes that torchrun started, if it did.

    Raises UserError where `processes` is another number, there are more processes than shards, or one process is to
    share a model.
    """
    _, size = place()
    if config.divides_model and max(size, config.processes) == 1:
        raise UserError(
            "one process has nothing to share", where="shard_model", fix="processes=2, or shard_model=false"
        )
    if size == 1:
        return config
    if config.processes not in (1, size):
        raise UserError(f"torchrun started {size} processes", where="processes", fix="leave processes= out")
    shards = config.prompts_per_step if config.shards == "auto" else config.shards
    if size > shards:
        raise UserError(
            f"torchrun started {size} processes, and a step has {plural(shards, 'shard')}",
            where="processes",
            fix=f"take --nproc-per-node={shards}",
        )
    return config.model_copy(update={"processes": size})


@contextmanager
def gather(verb: str, processes: int, folder: Path, check: Callable[[], None]) -> Iterator[Callable[[], Team]]:
    """Start the other processes of the run of `rlhf VERB` in `folder`, and end them at the end of the block.

    Gives a function that waits until all are there; call it once, with torch imported. `check` raises where the run is
    to stop.
    """
    children = Children(verb, processes, folder) if processes > 1 and place()[1] == 1 else None
    found: list[Team] = []

    def wait() -> Team:
        from rlhf_cli.ranks.leader import Leader
        from rlhf_cli.ranks.team import Team

        found.append(Leader(processes, children, check) if processes > 1 else Team())
        return found[0]

    try:
        yield wait
    finally:
        for team in found:
            team.close()
        if children is not None:
            children.end(GRACE_S if found else 0.0)
