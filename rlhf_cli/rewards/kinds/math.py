"""Whether a completion's answer has the same value as the one in a column of the data; by the library Math-Verify.

The right answer is read as a whole: one number, or one expression. In a completion the answer stands in
<answer>...</answer>, in a box, behind "answer is", "answer:" or ####, or is the last line; else the library chooses the
last LaTeX or the last number. Several boxes are one set, unless they stand in $. Two answers are the same where sympy
can show it: 1,000 and 1000, 1/2 and 0.5 (to six decimals where one of them is a decimal), x²+1 and 1+x²; 50 % is both
0.5 and 50; units and currencies do not count. Sentences are no mathematics, and neither is a number of more than 4300
digits.

The library's own timeouts are off: they would call an answer wrong that took too long. Here it has no score.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from rlhf_cli.errors import UserError
from rlhf_cli.rewards.deadline import score_in_time
from rlhf_cli.rewards.formulas import is_plain_number, may_be_readable, read_answer, read_expected, read_part
from rlhf_cli.rewards.kinds.base import IsolatedSource
from rlhf_cli.rewards.texts import Completion, Extractor, compile_pattern, extract_answer, right_answer, text_of

_NO_MATHEMATICS: Final = "is neither one number nor one expression"


class Math(IsolatedSource):
    """Compare numbers and formulas by value; needs the extra `math`."""

    factory: ClassVar[str] = "rlhf_cli.rewards.kinds.math:make_score"
    highest: ClassVar[float] = 1.0
    searched_settings: ClassVar[tuple[str, ...]] = ("extract",)

    kind: Literal["math"]
    column: str = Field(min_length=1)
    """The column of the data with the right answer: numbers, texts, LaTeX with or without $; COLUMN.FIELD for a field
    of an object."""
    extract: Extractor | None = None
    """A pattern whose group, at its last match in a completion, is the answer; without a match the score is 0. null:
    in <answer>, in a box, behind "answer is" or ####, or the last line."""
    extract_expected: Extractor | None
    """A pattern whose group, at its last match in the column's value, is the right answer, as `#### (.*)` for GSM8K;
    null: the whole value is. A row without a match, or whose answer is no mathematics, is refused before the run, or
    has no score under on_error=mask."""
    format_score: float = Field(ge=0, le=1)
    """The score of an answer that is readable but wrong."""
    seconds: float = Field(gt=0, le=3600)
    """Time limit for each completion; one that takes longer, on this machine, has no score."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The column with the right answer."""
        return (self.column,)

    def check(self, key: str) -> None:
        """Raise UserError where the library is not installed."""
        if find_spec("math_verify") is None:
            raise UserError("math-verify is not installed", where=key, fix="pip install 'rlhf-cli[math]'")

    def wrong_value(self, value: Any, *, quick: bool = False) -> str | None:
        """Say why a row's right answer cannot be used: there is none, or it is no mathematics."""
        if wrong := super().wrong_value(value, quick=quick):
            return wrong
        pattern = None if self.extract_expected is None else compile_pattern(self.extract_expected)
        right = right_answer(pattern, value)
        if right is None:
            return "has no match for extract_expected"
        if is_plain_number(right):
            return None
        if not may_be_readable(right):
            return _NO_MATHEMATICS
        return None if quick else _why_unreadable(right, self.seconds)


def make_score(
    column: str, extract: str | None, extract_expected: str | None, format_score: float, seconds: float
) -> Callable[..., list[float | None]]:
    """Make a function that scores completions.

    1.0 for the right answer, `format_score` for another readable one, 0.0 for none; None where the right answer is not
    readable, or `seconds` were not enough.
    """
    from math_verify import verify

    _prepare()
    pattern = None if extract is None else compile_pattern(extract)
    column_pattern = None if extract_expected is None else compile_pattern(extract_expected)

    def score_text(value: Any, text: str) -> float | None:
        right = right_answer(column_pattern, value)
        if right is None or not (expected := read_expected(right)):
            return None
        extracted = extract_answer(pattern, text)
        answer = [] if extracted is None else read_answer(extracted) if pattern is None else read_part(extracted)
        if verify(expected, answer, timeout_seconds=None):
            return 1.0
        return format_score if any(not isinstance(part, str) for part in answer) else 0.0

    def score(completions: Sequence[Completion], **columns: Sequence[Any]) -> list[float | None]:
        return [
            score_in_time(seconds, partial(score_text, value), text_of(completion))
            for completion, value in zip(completions, columns[column], strict=True)
        ]

    return score


@cache
def _why_unreadable(text: str, seconds: float) -> str | None:
    """Say why a right answer cannot be read within `seconds`, if so; it takes up to some hundredths of a second."""
    _prepare()
    is_formula = score_in_time(seconds, lambda text: float(bool(read_expected(text))), text)
    if is_formula is None:
        return f"is not read within seconds={seconds:g}"
    return None if is_formula else _NO_MATHEMATICS


@cache
def _prepare() -> None:
    """Load the library and read a first formula, which takes seconds on a busy machine: no completion's own time."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own timeouts are off
    read_expected("x + 1")
