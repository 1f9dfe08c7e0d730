"""Whether a completion matches a regular expression: 1 or 0."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from rlhf_cli.rewards.deadline import in_time
from rlhf_cli.rewards.kinds.base import InProcess
from rlhf_cli.rewards.texts import Completion, Pattern, compiled, text_of
from rlhf_cli.settings import as_tuple


class Regex(InProcess):
    """A pattern of Python's `re`. Some take for ever on some texts, so it runs in a process that can be killed."""

    target: ClassVar[str] = "rlhf_cli.rewards.kinds.regex:scorer"

    kind: Literal["regex"]
    pattern: Pattern
    match: Literal["search", "fullmatch"]
    """Whether it is to be found anywhere, or has to be the whole completion."""
    flags: Annotated[tuple[Literal["ignorecase", "multiline", "dotall"], ...], BeforeValidator(as_tuple)]
    """ignorecase: capitals do not matter; multiline: ^ and $ at every line; dotall: the dot takes line ends too."""
    seconds: float = Field(gt=0, le=3600)
    """Of one completion; one that takes longer has no score."""

    @property
    def highest(self) -> float:
        """Of a match."""
        return 1.0


def scorer(
    pattern: str, match: str, flags: Sequence[str], seconds: float
) -> Callable[[Sequence[Completion]], list[float | None]]:
    """A function that scores completions: 1.0 with a match, 0.0 without, None where that took more than `seconds`."""
    expression = compiled(pattern, sum(re.RegexFlag[flag.upper()] for flag in set(flags)))
    find = expression.search if match == "search" else expression.fullmatch

    def judged(text: str) -> float:
        return 1.0 if find(text) else 0.0

    def score(completions: Sequence[Completion]) -> list[float | None]:
        return [in_time(seconds, judged, text_of(completion)) for completion in completions]

    return score
