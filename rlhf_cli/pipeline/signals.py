"""Ctrl-C, SIGTERM, SIGHUP, SIGUSR1 and the time limit: a run stops between two tokens or microbatches.

Slurm sends SIGUSR1 ahead of its own limit on request (`--signal=B:USR1@120`).
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from rlhf_cli.errors import EXIT_INTERRUPTED, EXIT_STOPPED, Stopped

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
PARENT: Final = "RLHF_SWEEP"
"""The environment variable with the process id of the sweep that started this trial."""
TWICE_S: Final = 0.3
"""Within this time a second signal counts as the first: a wrapper passes on a signal that the terminal sent to all."""
TWICE_OF_TRIAL_S: Final = 10.0
"""The same for a trial: a scheduler's signal reaches it again through its sweep, which may be slow."""


class StopSignals:
    """The first signal raises Stopped: at once, or inside `polled` at the next `check`. The second one exits at once.

    `time_limit` works like a signal, in seconds after `since`, a time of `time.monotonic`. So does the end of the sweep
    that started a trial.
    """

    def __init__(self, time_limit: float | None = None, since: float = 0.0) -> None:
        parent = os.environ.pop(PARENT, "")  # not for the processes that this one starts
        self.is_resumable: Callable[[], bool] = lambda: True
        """Whether there is something to go on from, for the exit code of the second signal."""
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
        """Handle the signals inside the block, and restore the former handlers afterwards."""
        ignored = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else []  # by nohup
        former = {number: signal.signal(number, self._receive) for number in SIGNALS if number not in ignored}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    @contextmanager
    def polled(self) -> Iterator[None]:
        """Let signals wait for `check` inside the block, whose work must not be left half done."""
        self._polled = True
        try:
            yield
        finally:
            self._polled = False

    def check(self) -> None:
        """Raise Stopped, once, if a signal came or the time is up.

        Call it only where everything half done can be undone.
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
            os._exit(EXIT_STOPPED if self.is_resumable() else EXIT_INTERRUPTED)
        self._received = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        self._when, self._pending = time.monotonic(), True  # pending: an exception raised now could be swallowed
        if not self._polled:
            raise Stopped(self._received)
