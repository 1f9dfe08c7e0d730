"""A stretch of a stranger's code (a chat template) held to a time and a memory: it fails, the process goes on."""

from __future__ import annotations

import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_MIB = 2**20


class TooMuch(Exception):
    """It took more time or memory than it was given; the message says which, and how much that was."""


class _Alarm(BaseException):
    """No Exception: jinja takes any of those in a constant expression for a reason to try again later."""


@contextmanager
def bounded(seconds: float, mebibytes: int) -> Iterator[None]:
    """Raises TooMuch inside the block once it has run for `seconds`, or needs `mebibytes` more than there are now.

    The time holds in the main thread alone, where Python hears signals; the memory on Linux, which keeps to RLIMIT_AS.
    The former alarm and limit come back, whatever happened.
    """
    try:
        with _memory(mebibytes * _MIB), _alarm(seconds):
            yield
    except _Alarm:
        raise TooMuch(f"takes more than {seconds:g} s") from None
    except MemoryError:
        raise TooMuch(f"takes more than {mebibytes} MiB") from None


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    start, over = time.monotonic(), False

    def ring(number: int, frame: FrameType | None) -> None:
        if not over:
            raise _Alarm

    handler = signal.signal(signal.SIGALRM, ring)
    # it rings again and again: an exception in a destructor, for one, is swallowed
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        try:
            yield
        finally:
            over = True
    finally:
        if left:
            left = max(left - (time.monotonic() - start), 1e-3)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, left, interval)


@contextmanager
def _memory(size: int) -> Iterator[None]:
    statm = Path("/proc/self/statm")
    if not statm.is_file():  # no Linux
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = int(statm.read_text().split()[0]) * resource.getpagesize() + size
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
