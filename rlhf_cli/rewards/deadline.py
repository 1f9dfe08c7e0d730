"""A time limit for each completion, so that a hard one does not cost the others their scores."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from rlhf_cli.models.limits import LimitExceeded, time_limit

SHOWN: Final = 200
"""Characters of a completion that the log shows."""


def score_in_time(seconds: float, score: Callable[[str], float | None], text: str) -> float | None:
    """Return `score(text)`, or None after `seconds`; the text is then written to stderr.

    Some code survives this alarm; the deadline of the whole process (`reward.timeout_s`) ends it.
    """
    try:
        with time_limit(seconds):
            return score(text)
    except LimitExceeded:
        sys.stderr.write(f"no score within {seconds:g} s: {text[:SHOWN]!r}\n")
        return None
