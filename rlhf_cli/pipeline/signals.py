"""Ctrl-C and SIGTERM: the handler only takes note; the run stops where it asks, between two tokens or microbatches."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rlhf_cli.errors import EXIT_STOPPED, Stopped


class StopSignals:
    """The first signal makes the next `check` raise Stopped; the second one exits at once."""

    def __init__(self) -> None:
        self._received: str | None = None
        self._pending = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Listen inside the block; the former handlers come back afterwards."""
        former = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raise Stopped, once, if a signal came. Called only where nothing is half done that could not be undone."""
        if self._pending:
            self._pending = False
            raise Stopped(self._received or "")

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h\n")  # a live display hides the cursor
            os._exit(EXIT_STOPPED)
        self._received = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        self._pending = True
