"""The text of a completion, and the answer that a pattern of the user's finds in a text."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, Field

Completion: TypeAlias = str | Sequence[Mapping[str, Any]]
"""As TRL gives it: a text, or for chat data `[{"role": "assistant", "content": text}]`."""


def text_of(completion: Completion) -> str:
    """The text of a completion; of a chat, that of its last turn."""
    return completion if isinstance(completion, str) else str(completion[-1]["content"])


def compiled(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """The regular expression; Python's warnings that some may mean something else one day are for no one here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.compile(pattern, flags)


def _compiles(pattern: str) -> str:
    try:
        compiled(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"must be a regular expression: {error}") from error
    return pattern


def _one_group(pattern: str) -> str:
    if (groups := compiled(pattern).groups) != 1:
        raise ValueError(f"must have one group, the answer in (parentheses), and has {groups}")
    return pattern


Pattern = Annotated[str, Field(min_length=1), AfterValidator(_compiles)]
"""A regular expression of Python's `re`."""

Extractor = Annotated[Pattern, AfterValidator(_one_group)]
"""A regular expression with one group, which is the answer."""


def extracted(pattern: re.Pattern[str] | None, text: str) -> str | None:
    """What the group of the last match has; None without a match, and the whole text without a pattern."""
    if pattern is None:
        return text
    answer: str | None = None
    for match in pattern.finditer(text):
        answer = match[1]
    return answer


def expected(pattern: re.Pattern[str] | None, value: Any) -> str | None:
    """The answer that a column's value holds; None where there is none, and of a list or a mapping."""
    return extracted(pattern, str(value)) if isinstance(value, str | int | float) else None
