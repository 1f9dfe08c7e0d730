"""The team of a run's first process: it sends shards to the others, and notices where one of them fails."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

import torch.distributed as dist
from torch._C._distributed_c10d import Store, TCPStore
from torch.distributed.rendezvous import rendezvous

from rlhf_cli.engine import Engine
from rlhf_cli.errors import Stopped, first_line
from rlhf_cli.models.memory import is_out_of_memory
from rlhf_cli.models.policy import Policy
from rlhf_cli.ranks import wire
from rlhf_cli.ranks.children import GRACE_S, HOST, Children
from rlhf_cli.ranks.dealing import rank_of
from rlhf_cli.ranks.failures import Follows, error_of, torn_by_memory
from rlhf_cli.ranks.link import Link
from rlhf_cli.ranks.lockstep import GivenUp, Lockstep, Torn, is_lost
from rlhf_cli.ranks.messages import Failure, Opening, Order, heart
from rlhf_cli.ranks.team import C, Duties, E, R, Task, Team, check_alike, describe
from rlhf_cli.types import Tick

T = TypeVar("T")

POLL_S: Final = 0.2
"""Seconds between two looks at signals and at the other processes, at most."""
BEAT_S: Final = 1.0
"""Seconds between two looks at the heartbeats, at least."""
SILENT: Final = 30
"""Looks in a row without a heartbeat after which a process counts as stopped. Looks, not seconds: this process may have
been stopped itself."""


class Leader(Team):
    """This process, which is rank 0, and the others."""

    def __init__(self, size: int, children: Children | None, check: Callable[[], None]) -> None:
        """Wait for the others, which are `children` or were started by torchrun.

        `check` raises where the run is to stop. Raises Stopped where a process is gone.
        """
        self.size, self._children, self._check = size, children, check
        self._number = 0
        self._looked = time.monotonic()
        self._silent = dict.fromkeys(range(1, size), (-1, 0))
        """rank -> its heartbeats so far, and the looks since the last one."""
        self._store = _open_store(size, children)
        # a connection of its own, as the thread that joins waits on the other
        self._hearts = self._store.clone()  # type: ignore[attr-defined]  # the stubs lack it
        self._links: list[Link] = []
        self._lockstep: Lockstep | None = None
        self._lost: str | None = None
        """The process of a sharded run that is gone, and the reason."""
        self._closed = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)
        """Started for a sharded model alone."""
        joined: SimpleQueue[Exception | None] = SimpleQueue()
        threading.Thread(target=_join, args=(self._store, size, joined), daemon=True).start()
        if (failure := self._wait(joined)) is not None:
            raise Stopped(f"the processes of the run do not find each other: {failure}") from failure
        self._links = [Link(rank) for rank in range(1, size)]

    def open(self, duties: Duties[C, E], config: C, note: Callable[[str], None]) -> tuple[Policy, E]:
        """Load the model as `Team.open` does; raises UserError where another process has another model."""
        policy, engine = super().open(duties, config, note)
        everyone = {rank: () for rank in range(self.size)}
        check_alike(self.map(policy, engine, describe, everyone, lambda: None), note)
        return policy, engine

    def load(self, duties: Duties[C, E], config: C, threads: int, note: Callable[[str], None]) -> tuple[Policy, E]:
        """Load the model here and in the others, each with so many threads; of a sharded one, each its part."""
        for link in self._links:
            link.orders.put(Opening(config.model_dump(mode="json"), threads))
        if not config.divides_model:
            return duties.load(config, note, None)
        self._watching.start()
        self._lockstep = Lockstep()
        try:
            return duties.load(config, note, self._lockstep)
        except RuntimeError as error:
            if is_lost(error):
                raise Stopped(self._why_lost(error)) from error
            raise

    def map(
        self, policy: Policy, engine: Engine, task: Task[R], parts: Mapping[int, tuple[Any, ...]], tick: Tick
    ) -> list[R]:
        """Calculate shards, by their numbers, each by the process whose turn it is; returns the results in this order.

        Raises what `task` raises, here or elsewhere, and Stopped where a process is gone or no longer answers.
        """
        self._number += 1
        dealt = {rank: [one for one in parts if rank_of(one, self.size) == rank] for rank in range(self.size)}
        asked = [(link, dealt[link.rank]) for link in self._links if dealt[link.rank] or self._lockstep is not None]
        weights = [weight.detach().cpu().clone() for weight in policy.parameters().values()] if asked else []
        for link, own in asked:
            link.device = policy.device
            sent = [parts[number] for number in own]
            link.orders.put(Order(self._number, link.news(weights), task.__name__, sent))

        def watched() -> None:
            tick()
            self._look()

        def calculate() -> dict[int, R]:
            return {number: task(policy, engine, *parts[number], tick=watched) for number in dealt[0]}

        results = calculate() if self._lockstep is None else self._in_step(self._lockstep, calculate)
        for link, own in asked:
            results |= dict(zip(own, self._answer(link), strict=True))
        return [results[number] for number in parts]

    def _in_step(self, lockstep: Lockstep, calculate: Callable[[], T]) -> T:
        """Calculate in step with the others; raises what went wrong, here or elsewhere."""
        try:
            return lockstep.run(calculate)
        except GivenUp as error:
            for link in self._links:
                with suppress(Follows):
                    self._answer(link)  # raises why it gave up
            raise Stopped(self._why_lost(error)) from error
        except Torn as torn:
            if is_out_of_memory(torn.error):
                raise torn_by_memory(0) from torn
            raise torn.error from torn

    def close(self) -> None:
        """Let the others end, and kill the children that do not."""
        self._closed.set()
        if self._watching.is_alive():
            self._watching.join(GRACE_S)  # a thread that is in the store while Python ends would abort the process
        for link in self._links:
            link.orders.put(None)
        for link in self._links:
            link.thread.join(GRACE_S / len(self._links))
        if self._links and not any(link.thread.is_alive() for link in self._links):
            dist.destroy_process_group()

    def _answer(self, link: Link) -> Sequence[Any]:
        """The results of the present order; those of an order that was given up are passed over."""
        while True:
            answer = self._wait(link.answers)
            if isinstance(answer, Exception):
                if not isinstance(answer, RuntimeError):  # the connection stands: the message is at fault
                    raise answer
                if self._lost is not None:
                    raise Stopped(self._lost)
                raise Stopped(f"rank {link.rank} {self._why_gone(link.rank, answer)}") from answer
            if answer.number == self._number:
                break
        if isinstance(answer.results, Failure):
            raise error_of(answer.results, link.rank)
        return answer.results

    def _wait(self, queue: SimpleQueue[T]) -> T:
        """The next of the queue; looks after signals and the other processes meanwhile."""
        while True:
            try:
                return queue.get(timeout=POLL_S)
            except Empty:
                self._check()
                self._look()

    def _look(self) -> None:
        """Raise Stopped where another process has ended, or its heart has not been heard for a while."""
        if self._lockstep is not None:  # the thread looks
            if self._lost is not None:
                raise Stopped(self._lost)
        elif time.monotonic() - self._looked >= BEAT_S:
            self._looked = time.monotonic()
            if (lost := self._find_lost()) is not None:
                raise Stopped(lost)

    def _find_lost(self) -> str | None:
        """The process that has ended or gives no sign of life, and the reason."""
        for rank, (beats, looks) in self._silent.items():
            reason = self._children.why_gone(rank) if self._children is not None else None
            if reason is None and self._links:  # before all are there, their hearts may be silent
                now = self._hearts.add(heart(rank), 0)
                self._silent[rank] = now, 0 if now != beats else looks + 1
                if self._silent[rank][1] >= SILENT:
                    reason = f"gave no sign of life for {SILENT * BEAT_S:g} s"
            if reason is not None:
                return f"rank {rank} {reason}"
        return None

    def _watch(self) -> None:
        """Look after the others while this process waits in a pass, which the end of the children breaks off."""
        with suppress(RuntimeError):  # the store is gone, as the run is
            while not self._closed.wait(BEAT_S):
                if (lost := self._find_lost()) is not None:
                    self._lost = lost
                    if self._children is not None:
                        self._children.kill()
                    return

    def _why_gone(self, rank: int, error: Exception) -> str:
        until = time.monotonic() + BEAT_S
        while self._children is not None and time.monotonic() < until:
            if reason := self._children.why_gone(rank):
                return reason
            time.sleep(0.02)
        return f"is gone: {first_line(error)}"

    def _why_lost(self, error: Exception) -> str:
        """The process that is gone, and the reason, after an error that does not say so."""
        until = time.monotonic() + 2 * BEAT_S
        while self._lost is None and time.monotonic() < until:
            time.sleep(0.02)
        return self._lost or f"a process is gone: {first_line(error)}"


def _open_store(size: int, children: Children | None) -> Store:
    """The store in which the processes find each other; for children, one that only this machine reaches."""
    if children is None:
        store: Store = next(rendezvous("env://", 0, size, timeout=wire.START))[0]
        return store
    listening = children.socket.detach()
    return TCPStore(HOST, children.port, size, True, wire.START, wait_for_workers=False, master_listen_fd=listening)


def _join(store: Store, size: int, joined: SimpleQueue[Exception | None]) -> None:
    try:
        wire.join_group(store, 0, size)
        joined.put(None)
    except Exception as error:
        joined.put(error)
