"""Threads of the CPU that other programs leave room for."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import torch

INTERVAL: Final = 0.5
"""Seconds between two looks at the load."""
WAITED: Final = 0.25
"""Share of the time that all threads together wait for a core from which on one thread is too many."""
IDLE: Final = 0.7
"""Cores that stand idle from which on there is room for another thread."""


class Load(NamedTuple):
    """Seconds that only grow."""

    waited: float
    """The threads of this process together, ready to run and without a core."""
    idle: float
    """The machine's cores together, without work."""


def read_load() -> Load:
    """The load so far, from Linux; raises OSError on another system."""
    waited = 0
    for thread in Path("/proc/self/task").iterdir():
        try:
            waited += int((thread / "schedstat").read_text(encoding="ascii").split()[1])  # nanoseconds
        except (FileNotFoundError, ProcessLookupError):  # it ended
            continue
    idle, disk = map(int, Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=6)[4:6])
    return Load(waited / 1e9, (idle + disk) / os.sysconf("SC_CLK_TCK"))


class SpareThreads:
    """Give torch as many threads as other programs leave cores for, from one to `most`.

    Threads wait for each other at every operation, so that one without a core holds up all. Only for calculations that
    have the same bits with any number of threads.
    """

    def __init__(
        self, most: int, read: Callable[[], Load] = read_load, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._read, self._now = most, read, now
        self._before, self._since = self._read(), now()

    def adapt(self) -> None:
        """Take a thread away where threads waited for cores since the last look, or add one where cores were idle.

        A thread that sleeps at a barrier waits a little whenever it is woken, also where it has a core: then cores are
        idle for longer than threads wait.
        """
        elapsed = self._now() - self._since
        if elapsed < INTERVAL:
            return
        load, threads = self._read(), torch.get_num_threads()
        waited, idle = (new - old for new, old in zip(load, self._before, strict=True))
        if waited > max(WAITED * elapsed, idle) and threads > 1:
            torch.set_num_threads(threads - 1)
        elif idle > IDLE * elapsed and threads < self._most:
            torch.set_num_threads(threads + 1)
        self._before, self._since = load, self._now()


def spare_threads(most: int) -> SpareThreads | None:
    """Threads that make room for other programs; None where there is nothing to choose, or the system does not tell."""
    try:
        return SpareThreads(most) if most > 1 else None
    except (OSError, ValueError, IndexError):
        return None
