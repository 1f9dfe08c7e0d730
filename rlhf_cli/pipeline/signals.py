"""Ctrl-C and SIGTERM stop a run by raising Stopped where it stands, except where that would tear something."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rlhf_cli.errors import EXIT_STOPPED, Stopped


class StopSignals:
    """The first signal raises Stopped, at once or at the end of the `held` block it falls into; the second exits."""

    def __init__(self) -> None:
        self._holding = False
        self._waiting: str | None = None
        self._stopping = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Listen inside the block; the former handlers come back afterwards."""
        former = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the block finish first: a step is logged and saved whole, or not at all."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._waiting is not None:
            raise Stopped(self._waiting)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if self._stopping:
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h\n")  # a live display hides the cursor
            os._exit(EXIT_STOPPED)
        self._stopping = True
        if self._holding:
            self._waiting = name
        else:
            raise Stopped(name)
