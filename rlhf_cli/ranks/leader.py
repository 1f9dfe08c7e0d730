"""The team of a run's first process: it sends shards to the others, and notices where one of them fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import Store, TCPStore
from torch.distributed.rendezvous import rendezvous

from rlhf_cli.engine import Engine
from rlhf_cli.errors import Stopped, UserError, first_line
from rlhf_cli.models.policy import Policy
from rlhf_cli.ranks import wire
from rlhf_cli.ranks.children import GRACE_S, HOST, Children
from rlhf_cli.ranks.dealing import rank_of
from rlhf_cli.ranks.messages import Answer, Failure, Opening, Order, heart
from rlhf_cli.ranks.team import R, Team, Work
from rlhf_cli.schema import RunConfig
from rlhf_cli.types import Tick

T = TypeVar("T")

POLL_S: Final = 0.2
"""Seconds between two looks at signals and at the other processes, at most."""
BEAT_S: Final = 1.0
"""Seconds between two looks at the heartbeats, at least."""
SILENT: Final = 30
"""Looks in a row without a heartbeat after which a process counts as stopped. Looks, not seconds: this process may have
been stopped itself."""


class RankFailed(RuntimeError):
    """Another process had an error that is no mistake of the user."""


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
        self._links: list[_Link] = []
        joined: SimpleQueue[Exception | None] = SimpleQueue()
        threading.Thread(target=_join, args=(self._store, size, joined), daemon=True).start()
        if (failure := self._wait(joined, watch_hearts=False)) is not None:
            raise Stopped(f"the processes of the run do not find each other: {failure}") from failure
        self._links = [_Link(rank) for rank in range(1, size)]

    def open(self, config: RunConfig, threads: int) -> None:
        """Let the others load the model, each with so many threads, while this process does."""
        for link in self._links:
            link.orders.put(Opening(config.model_dump(mode="json"), threads))

    def map(
        self, policy: Policy, engine: Engine, work: Work[R], parts: Mapping[int, tuple[Any, ...]], tick: Tick
    ) -> list[R]:
        """Calculate shards, by their numbers, each by the process whose turn it is; returns the results in this order.

        Raises what `work` raises, here or elsewhere, and Stopped where a process is gone or no longer answers.
        """
        self._number += 1
        dealt = {rank: [one for one in parts if rank_of(one, self.size) == rank] for rank in range(self.size)}
        asked = [(link, dealt[link.rank]) for link in self._links if dealt[link.rank]]
        weights = [weight.detach().cpu().clone() for weight in policy.parameters().values()] if asked else []
        for link, own in asked:
            link.device = policy.device
            link.orders.put(Order(self._number, link.news(weights), work, [parts[number] for number in own]))

        def watched() -> None:
            tick()
            self._look()

        results = {number: work(policy, engine, *parts[number], tick=watched) for number in dealt[0]}
        for link, own in asked:
            results |= dict(zip(own, self._answer(link), strict=True))
        return [results[number] for number in parts]

    def close(self) -> None:
        """Let the others end, and kill the children that do not."""
        for link in self._links:
            link.orders.put(None)
        for link in self._links:
            link.thread.join(GRACE_S / len(self._links))
        if self._links and not any(link.thread.is_alive() for link in self._links):
            dist.destroy_process_group()

    def _answer(self, link: _Link) -> Sequence[Any]:
        """The results of the present order; those of an order that was given up are passed over."""
        while True:
            answer = self._wait(link.answers)
            if isinstance(answer, Exception):
                raise Stopped(f"rank {link.rank} {self._why_gone(link.rank, answer)}") from answer
            if answer.number == self._number:
                break
        if isinstance(answer.results, Failure):
            raise _error_of(answer.results, link.rank)
        return answer.results

    def _wait(self, queue: SimpleQueue[T], *, watch_hearts: bool = True) -> T:
        """The next of the queue; looks after signals and the other processes meanwhile."""
        while True:
            try:
                return queue.get(timeout=POLL_S)
            except Empty:
                self._check()
                self._look(watch_hearts=watch_hearts)

    def _look(self, *, watch_hearts: bool = True) -> None:
        """Raise Stopped where another process has ended, or its heart has not been heard for a while."""
        if time.monotonic() - self._looked < BEAT_S:
            return
        self._looked = time.monotonic()
        for rank, (beats, looks) in self._silent.items():
            reason = self._children.why_gone(rank) if self._children is not None else None
            if reason is None and watch_hearts:
                now = self._hearts.add(heart(rank), 0)
                self._silent[rank] = now, 0 if now != beats else looks + 1
                if self._silent[rank][1] >= SILENT:
                    reason = f"gave no sign of life for {SILENT * BEAT_S:g} s"
            if reason is not None:
                raise Stopped(f"rank {rank} {reason}")

    def _why_gone(self, rank: int, error: Exception) -> str:
        until = time.monotonic() + BEAT_S
        while self._children is not None and time.monotonic() < until:
            if reason := self._children.why_gone(rank):
                return reason
            time.sleep(0.02)
        return f"is gone: {first_line(error)}"


class _Link:
    """The connection to one other process, in a thread of its own: it sends orders and waits for their answers."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.orders: SimpleQueue[Opening | Order | None] = SimpleQueue()
        self.answers: SimpleQueue[Answer | Exception] = SimpleQueue()
        self.device = torch.device("cpu")
        self._known: list[Tensor] = []
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def news(self, weights: list[Tensor]) -> list[Tensor] | None:
        """The trained weights, where the other process has others."""
        if self._known and all(map(torch.equal, self._known, weights)):
            return None
        self._known = weights
        return weights

    def _work(self) -> None:
        try:
            while (order := self.orders.get()) is not None:
                wire.send(order, self.rank)
                if isinstance(order, Order):
                    self.answers.put(wire.receive(self.rank, self.device))
            wire.send(None, self.rank)
        except Exception as error:
            self.answers.put(error)


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


def _error_of(failure: Failure, rank: int) -> Exception:
    """The error of another process, as if it had been here."""
    if failure.kind == "memory":
        return torch.OutOfMemoryError(failure.what)
    if failure.kind == "user":
        what = f"rank {rank}: {failure.what}"
        return UserError(what, where=failure.where, fix=failure.fix, exit_code=failure.exit_code)
    return RankFailed(f"rank {rank} failed:\n{failure.what}")
