"""A time limit for each completion, so that a hard one does not cost the others their scores."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any, Final

REPEAT_S: Final = 0.1
SHOWN: Final = 200
"""Characters of a completion that the log shows."""


class _TimeUp(BaseException):
    """The time is up. It is no Exception, so that little code swallows it."""


def score_in_time(seconds: float, score: Callable[[str], float | None], text: str) -> float | None:
    """Return `score(text)`; None where it takes longer than `seconds`, and the text is then written to stderr.

    SIGALRM interrupts even regular expressions and long integers, but it works in the main thread only. It is sent
    again and again, since some code swallows the exception that it raises. The deadline of the whole process
    (`reward.timeout_s`) ends code that survives all of them.
    """
    before = signal.signal(signal.SIGALRM, _time_up)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds, REPEAT_S)
            return score(text)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _TimeUp:
        signal.setitimer(signal.ITIMER_REAL, 0)  # the signal may have come just before the line above
        sys.stderr.write(f"no score within {seconds:g} s: {text[:SHOWN]!r}\n")
        return None
    finally:
        signal.signal(signal.SIGALRM, before)


def _time_up(number: int, frame: Any) -> None:
    raise _TimeUp
