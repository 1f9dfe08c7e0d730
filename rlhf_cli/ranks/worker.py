"""A run's process of rank 1 or more: it holds the model, calculates the shards that it is sent, and decides nothing."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from rlhf_cli.engine import Engine
from rlhf_cli.engine.reference import native_engine
from rlhf_cli.errors import EXIT_BUG, EXIT_DONE
from rlhf_cli.models.policy import Policy
from rlhf_cli.ranks import wire
from rlhf_cli.ranks.children import PARENT, die_with_parent
from rlhf_cli.ranks.failures import failure_of
from rlhf_cli.ranks.lockstep import Lockstep, Torn
from rlhf_cli.ranks.messages import Answer, Failure, Opening, Order, heart
from rlhf_cli.ranks.team import C, Duties, E, Task, describe

IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""The first process takes these for all: it saves, and then lets the others end."""
Calculate = Callable[[Order], list[Any]]
"""The results of an order's parts."""

BEAT_S: Final = 1.0
LOST_S: Final = 600.0
"""Seconds without the store's answer after which a process that torchrun started takes the first one's host for gone.
Its connection says nothing where a cable was cut. It is long, as Ctrl-Z may stop the first process for a while."""


def serve(rank: int, size: int, duties: Duties[C, E]) -> int:
    """Join the run and do the duties of its verb until it ends; returns the exit code."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    die_with_parent()
    store, _, _ = next(rendezvous("env://", rank, size, timeout=wire.START))
    patience = None if PARENT in os.environ else LOST_S  # a child ends with the first process, on the same host
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(store.clone(), rank, patience, ended), daemon=True)
    beating.start()
    wire.join_group(store, rank, size)
    try:
        if (opening := wire.receive(0, torch.device("cpu"))) is not None:
            calculate, device = _open(duties, opening)
            while (order := wire.receive(0, device)) is not None:
                answer = _answer(calculate, order)
                wire.send(answer, 0)
                if isinstance(answer.results, Failure) and answer.results.torn:
                    os._exit(EXIT_BUG)  # the others wait for the rest of a pass
    except RuntimeError:  # the first process is gone, and its own end says why
        os._exit(EXIT_DONE)
    ended.set()
    beating.join()  # a thread that is in the store while Python ends would abort the process
    dist.destroy_process_group()
    return EXIT_DONE


def _open(duties: Duties[C, E], opening: Opening) -> tuple[Calculate, torch.device]:
    """Load the model; returns the function that answers orders, and the device of their tensors."""
    config = duties.schema.model_validate(opening.config)
    if config.device in ("auto", "cuda") and torch.cuda.is_available():
        own = int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
        config = config.model_copy(update={"device": f"cuda:{own}"})
    lockstep = Lockstep() if config.divides_model else None
    try:
        policy, engine = duties.load(config, lambda note: None, lockstep)
    except Exception as error:
        return partial(_refuse, error, lockstep), torch.device("cpu")
    torch.set_num_threads(opening.threads)
    tasks = {task.__name__: task for task in (*duties.tasks, describe)}
    return _calculator(policy, engine, lockstep, tasks), policy.device


def _calculator(policy: Policy, engine: Engine, lockstep: Lockstep | None, tasks: Mapping[str, Task[Any]]) -> Calculate:
    """The function that answers orders by the model of this process."""

    def calculate(order: Order) -> list[Any]:
        if order.weights is not None:
            if (native := native_engine(engine)) is not None:
                native.forget()
            with torch.no_grad():
                for parameter, weight in zip(policy.parameters().values(), order.weights, strict=True):
                    parameter.copy_(weight)
        task = tasks[order.task]

        def own() -> list[Any]:
            return [task(policy, engine, *part, tick=lambda: None) for part in order.parts]

        return own() if lockstep is None else lockstep.run(own)

    return calculate


def _refuse(error: Exception, lockstep: Lockstep | None, order: Order) -> list[Any]:
    """Answer any order by the error that the model could not be loaded for."""
    if lockstep is not None:
        lockstep.give_up()
    raise error


def _answer(calculate: Calculate, order: Order) -> Answer:
    try:
        return Answer(order.number, calculate(order))
    except Torn as torn:
        return Answer(order.number, replace(failure_of(torn.error), torn=True))
    except Exception as error:
        return Answer(order.number, failure_of(error))


def _beat(store: Store, rank: int, patience: float | None, ended: threading.Event) -> None:
    """Count up in the store until the run has ended; end this process where the store is gone before."""
    try:
        while not ended.is_set():
            with _limit(patience):
                store.add(heart(rank), 1)
            ended.wait(BEAT_S)
    except RuntimeError:
        if not ended.is_set():
            os._exit(EXIT_BUG)


@contextmanager
def _limit(seconds: float | None) -> Iterator[None]:
    """End this process where the block takes longer; None: it may take any time."""
    if seconds is None:
        yield
        return
    alarm = threading.Timer(seconds, os._exit, [EXIT_BUG])
    alarm.daemon = True
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()
