"""Limit the time and memory of a block of code, such as a chat template that a stranger wrote."""

import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_MIB = 2**20
_REPEAT_S = 0.1
_SHORTEST_S = 1e-6
"""The clock counts microseconds: less would be no limit at all."""


class LimitExceeded(Exception):
    """The block exceeded its limit of time or memory; the message names the limit."""


class _Alarm(BaseException):
    """The end of the time. It is no Exception: jinja swallows those in constant expressions, and tries again later."""


@contextmanager
def limit(seconds: float, mebibytes: int) -> Iterator[None]:
    """Raise LimitExceeded once the block has run for `seconds`, or has allocated `mebibytes`.

    The memory limit needs Linux, which enforces RLIMIT_AS. The previous limit is always restored.
    """
    try:
        with _memory_limit(mebibytes * _MIB), time_limit(seconds):
            yield
    except MemoryError:
        raise LimitExceeded(f"takes more than {mebibytes} MiB") from None


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise LimitExceeded once the block has run for `seconds`; the previous alarm is always restored.

    SIGALRM interrupts even regular expressions and long integers, but only in the main thread: other threads have no
    limit. It rings again and again, because some code swallows the exception, as a destructor does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    start, over = time.monotonic(), False

    def ring(number: int, frame: FrameType | None) -> None:
        if not over:
            raise _Alarm

    left, interval = signal.getitimer(signal.ITIMER_REAL)
    handler = signal.signal(signal.SIGALRM, ring)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, max(seconds, _SHORTEST_S), _REPEAT_S)
            yield
        finally:
            over = True
    except _Alarm:
        raise LimitExceeded(f"takes more than {seconds:g} s") from None
    finally:
        if left:
            left = max(left - (time.monotonic() - start), 1e-3)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, left, interval)


@contextmanager
def _memory_limit(size: int) -> Iterator[None]:
    statm = Path("/proc/self/statm")
    if not statm.is_file():  # not Linux
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = int(statm.read_text().split()[0]) * resource.getpagesize() + size
    if soft != resource.RLIM_INFINITY:
        bound = min(bound, soft)
    resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
