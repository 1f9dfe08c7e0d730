"""A time limit for each completion, so that a hard one does not cost the others their scores."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rlhf_cli.models.limits import LimitExceeded, time_limit
from rlhf_cli.rewards.texts import SHOWN, Completion, text_of


def score_each(
    seconds: float, score: Callable[..., float | None], completions: Sequence[Completion], *columns: Sequence[Any]
) -> list[float | None]:
    """Score each completion's text with its values of the columns: `score(*values, text)`, or None after `seconds`."""
    rows = zip(completions, *columns, strict=True)
    return [score_in_time(seconds, partial(score, *values), text_of(completion)) for completion, *values in rows]


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
