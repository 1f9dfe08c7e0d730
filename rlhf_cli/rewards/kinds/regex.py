"""Whether a completion matches a regular expression: 1 or 0."""

import re
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from rlhf_cli.rewards.deadline import score_each
from rlhf_cli.rewards.kinds.base import IsolatedSource
from rlhf_cli.rewards.texts import Pattern, compile_pattern
from rlhf_cli.settings import as_tuple


class Regex(IsolatedSource):
    """A pattern of Python's `re`. It runs in a process of its own: some patterns take for ever on some texts."""

    factory: ClassVar[str] = "rlhf_cli.rewards.kinds.regex:make_score"
    highest: ClassVar[float] = 1.0
    searched_settings: ClassVar[tuple[str, ...]] = ("pattern",)

    kind: Literal["regex"]
    pattern: Pattern
    """The pattern that a completion has to match, as Python's `re` writes it."""
    match: Literal["search", "fullmatch"]
    """Whether the pattern may match anywhere, or must match the whole completion."""
    flags: Annotated[tuple[Literal["ignorecase", "multiline", "dotall"], ...], BeforeValidator(as_tuple)]
    """ignorecase: capitals do not matter; multiline: ^ and $ match at every line; dotall: the dot matches line ends."""
    seconds: float = Field(gt=0, le=3600)
    """Time limit for each completion; one that takes longer has no score."""


def make_score(**settings: Any) -> Callable[..., list[float | None]]:
    """Make a function that scores completions: 1.0 with a match, 0.0 without, None after more than `seconds`."""
    own = Regex.model_construct(**settings)
    expression = compile_pattern(own.pattern, sum(re.RegexFlag[flag.upper()] for flag in set(own.flags)))
    find = expression.search if own.match == "search" else expression.fullmatch
    return partial(score_each, own.seconds, lambda text: 1.0 if find(text) else 0.0)
