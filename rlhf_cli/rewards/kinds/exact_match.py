"""Whether a completion's answer equals the one in a column of the data: 1 or 0.

Texts are compared letter by letter, and a number in the data by its value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from rlhf_cli.rewards.deadline import score_in_time
from rlhf_cli.rewards.kinds.base import IsolatedSource
from rlhf_cli.rewards.texts import Completion, Extractor, compile_pattern, extract_answer, right_answer, text_of

FINAL_PUNCTUATION: Final = ".,;:!?…"
_NUMBER: Final = re.compile(r"[+-]?(?:10(?:\^|\*\*)\d{1,9}|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9})?)", re.ASCII)
"""A decimal number. Its exponent is bounded, and never written out: comparing it costs nothing."""


class ExactMatch(IsolatedSource):
    """Compare the answers of completion and data as texts: 1,000 is not 1000 (use `math` for that).

    A number in the data, which is no text, equals each decimal of its value: 72 is 72.0, and 1e22 is 10^22.
    """

    factory: ClassVar[str] = "rlhf_cli.rewards.kinds.exact_match:make_score"
    highest: ClassVar[float] = 1.0
    searched_settings: ClassVar[tuple[str, ...]] = ("extract",)

    kind: Literal["exact_match"]
    column: str = Field(min_length=1)
    """The column of the data with the right answer: texts or numbers; COLUMN.FIELD for a field of an object."""
    extract: Extractor | None
    """A pattern whose group, at its last match in a completion, is the answer; without a match the score is 0. null:
    the whole completion is the answer."""
    extract_expected: Extractor | None
    """The same for the column's value, as `#### (.*)` for GSM8K; a row without a match has no score."""
    ignore_case: bool
    """Whether capitals do not matter."""
    strip: bool
    """Whether white space around an answer, and punctuation at its end, do not matter."""
    seconds: float = Field(gt=0, le=3600)
    """Time limit for each completion; one that takes longer has no score."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The column with the right answer."""
        return (self.column,)

    def wrong_value(self, value: Any, *, quick: bool = False) -> str | None:
        """Say why a row has no right answer."""
        if wrong := super().wrong_value(value, quick=quick):
            return wrong
        pattern = None if self.extract_expected is None else compile_pattern(self.extract_expected)
        return "has no match for extract_expected" if right_answer(pattern, value) is None else None


def make_score(
    column: str, extract: str | None, extract_expected: str | None, ignore_case: bool, strip: bool, seconds: float
) -> Callable[..., list[float | None]]:
    """Make a function that scores completions: 1.0, 0.0, or None without a right answer or after `seconds`."""
    completion_pattern = None if extract is None else compile_pattern(extract)
    column_pattern = None if extract_expected is None else compile_pattern(extract_expected)

    def normalise(text: str) -> str:
        text = text.casefold() if ignore_case else text
        return text.strip().rstrip(FINAL_PUNCTUATION).rstrip() if strip else text

    def score_text(value: Any, text: str) -> float | None:
        right, answer = right_answer(column_pattern, value), extract_answer(completion_pattern, text)
        if right is None:
            return None
        if answer is None:
            return 0.0
        answer, right = normalise(answer), normalise(right)
        is_number = column_pattern is None and isinstance(value, int | float)
        return float(answer == right or (is_number and is_same_number(answer, right)))

    def score(completions: Sequence[Completion], **columns: Sequence[Any]) -> list[float | None]:
        return [
            score_in_time(seconds, partial(score_text, value), text_of(completion))
            for completion, value in zip(completions, columns[column], strict=True)
        ]

    return score


def is_same_number(answer: str, right: str) -> bool:
    """Whether two texts are decimal numbers of the same value: 1e22 and 10^22."""
    numbers = [re.sub(r"10(\^|\*\*)", "1e", text) for text in (answer, right) if _NUMBER.fullmatch(text)]
    return len(numbers) == 2 and Decimal(numbers[0]) == Decimal(numbers[1])
