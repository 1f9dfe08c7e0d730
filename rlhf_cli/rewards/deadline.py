"""A deadline for one completion, so that a hard one does not cost those beside it their scores."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any, Final

REPEAT_S: Final = 0.1
SHOWN: Final = 200
"""Characters of a completion that the log shows."""


class _Late(BaseException):
    """The time is up; no Exception, so that little swallows it."""


def in_time(seconds: float, judge: Callable[[str], float | None], text: str) -> float | None:
    """`judge(text)`, or None where that takes longer than `seconds`; stderr, the run's reward.log, then has the text.

    It rings by SIGALRM, which interrupts the regular expressions and the long integers of Python's own too, so it works
    in the main thread alone; and it rings again and again, since some code swallows whatever is raised in it. What even
    that does not end, the deadline of the whole process does (`reward.timeout_s`).
    """
    before = signal.signal(signal.SIGALRM, _ring)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds, REPEAT_S)
            return judge(text)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _Late:
        signal.setitimer(signal.ITIMER_REAL, 0)  # it may have rung just before the one above
        sys.stderr.write(f"no score within {seconds:g} s: {text[:SHOWN]!r}\n")
        return None
    finally:
        signal.signal(signal.SIGALRM, before)


def _ring(number: int, frame: Any) -> None:
    raise _Late
