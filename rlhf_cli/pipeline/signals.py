"""Ctrl-C, SIGTERM, SIGHUP, SIGUSR1 and the time limit: a run stops where it asks, between two tokens or microbatches.

SIGUSR1 is what Slurm sends ahead of its limit where one asks for it (`--signal=B:USR1@120`).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from rlhf_cli.errors import EXIT_STOPPED, Stopped

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
PARENT: Final = "RLHF_SWEEP"
"""The environment variable that names the process of the sweep a run is a trial of."""
TWICE_S: Final = 0.3
"""Wrappers pass on what the terminal sends to all: a second signal so soon after the first is the same one."""
TWICE_OF_TRIAL_S: Final = 10.0
"""A scheduler's signal reaches a trial twice, the second time through its sweep, which may be slow."""


class StopSignals:
    """The first signal raises Stopped: at once, or where the work is polled, at its next `check`.

    The second one exits at once, with nothing more saved. `time_limit`, in seconds from `since` on, a time of
    `time.monotonic`, is a signal as well; so is, for a trial, the end of the sweep that started it.
    """

    def __init__(self, time_limit: float | None = None, since: float = 0.0) -> None:
        parent = os.environ.pop(PARENT, "")  # not for the processes that this one starts
        self._parent = int(parent) if parent.isdigit() else 0
        self._twice_s = TWICE_OF_TRIAL_S if self._parent else TWICE_S
        self._limit = time_limit
        self._deadline = None if time_limit is None else since + time_limit
        self._received: str | None = None
        self._when = 0.0
        self._pending = False
        self._polled = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Listen inside the block; the former handlers come back afterwards."""
        ignored = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else []  # by nohup
        former = {number: signal.signal(number, self._receive) for number in SIGNALS if number not in ignored}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    @contextmanager
    def polled(self) -> Iterator[None]:
        """Inside, a signal waits for `check`: there is work that must not be left half done."""
        self._polled = True
        try:
            yield
        finally:
            self._polled = False

    def check(self) -> None:
        """Raise Stopped, once, if a signal came or the time is up.

        Called only where nothing is half done that could not be undone.
        """
        if self._pending:
            self._pending = False
            raise Stopped(self._received or "")
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._deadline = None
            raise Stopped(f"time limit of {self._limit:g} s")
        if self._parent and os.getppid() != self._parent:
            self._parent = 0
            raise Stopped("the sweep that started it is gone")

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            if time.monotonic() - self._when < self._twice_s:
                return
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h\n")  # a live display hides the cursor
            os._exit(EXIT_STOPPED)
        self._received = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        self._when, self._pending = time.monotonic(), True  # pending: what is raised now could be swallowed
        if not self._polled:
            raise Stopped(self._received)
