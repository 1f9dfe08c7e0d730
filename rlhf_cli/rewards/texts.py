"""The text of a completion, and the answer in a text that a pattern finds."""

import re
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Final, TypeAlias

from pydantic import AfterValidator, Field

SHOWN: Final = 200
"""Characters of a completion, or of a server's answer, that a message shows."""

Completion: TypeAlias = str | Sequence[Mapping[str, Any]]
"""A completion in TRL's form: a text, or for chat data `[{"role": "assistant", "content": text}]`."""


def text_of(completion: Completion) -> str:
    """The text of a completion; for a chat, the text of its last turn."""
    return completion if isinstance(completion, str) else str(completion[-1]["content"])


def quote(text: str, most: int = SHOWN) -> str:
    """The text in quotes, cut after `most` characters."""
    whole = repr(text)
    return whole if len(whole) <= most else f"{whole[:most]}…"


@cache
def compile_pattern(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """Compile a regular expression, without Python's warnings that its meaning may change in the future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.compile(pattern, flags)


def _valid_pattern(pattern: str) -> str:
    try:
        compile_pattern(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"must be a regular expression: {error}") from error
    return pattern


def _one_group(pattern: str) -> str:
    if (groups := compile_pattern(pattern).groups) != 1:
        raise ValueError(f"must have one group, the answer in (parentheses), and has {groups}")
    return pattern


Pattern = Annotated[str, Field(min_length=1), AfterValidator(_valid_pattern)]
"""A regular expression of Python's `re`."""

Extractor = Annotated[Pattern, AfterValidator(_one_group)]
"""A regular expression with one group, which is the answer."""


def extract_answer(pattern: str | None, text: str) -> str | None:
    """Return the group of the last match, or None without a match; without a pattern, the whole text."""
    if pattern is None:
        return text
    answer: str | None = None
    for match in compile_pattern(pattern).finditer(text):
        answer = match[1]
    return answer


def right_answer(pattern: str | None, value: Any) -> str | None:
    """Return the answer in a column's value; None where there is none, and for a list or a mapping.

    A whole number is written as one: tables with a missing value keep 72 as 72.0.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return extract_answer(pattern, str(value)) if isinstance(value, str | int | float) else None
