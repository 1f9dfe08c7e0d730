"""Whether a completion's answer has the value of the one in a column of the data, by the library Math-Verify.

The library chooses the answer in a text: "the final answer is ...", a box, "answer: ...", the last LaTeX or the last
number; several boxes are one set, unless they stand in $. Two answers are the same where sympy can show it: 1,000 and
1000, 1/2 and 0.5 (to six decimals where one of them is a decimal), x²+1 and 1+x²; 50 % is both 0.5 and 50. Words are no
mathematics, and neither is a number of more than 4300 digits.

The library's own timeouts are off, because they make an answer wrong that ran out of time; here it has no score.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from rlhf_cli.errors import UserError
from rlhf_cli.rewards.deadline import score_in_time
from rlhf_cli.rewards.kinds.base import IsolatedSource
from rlhf_cli.rewards.texts import Completion, Extractor, compile_pattern, right_answer, text_of

MARKS: Final = ("$", r"\(", r"\[", r"\boxed")
"""The library finds LaTeX in a text by these."""


class Math(IsolatedSource):
    """Compare numbers and formulas by value; needs the extra `math`."""

    factory: ClassVar[str] = "rlhf_cli.rewards.kinds.math:make_score"
    highest: ClassVar[float] = 1.0

    kind: Literal["math"]
    column: str = Field(min_length=1)
    """The column of the data with the right answer: numbers, texts, LaTeX with or without $."""
    extract_expected: Extractor | None
    """A pattern whose group, at its last match in the column's value, is the right answer, as `#### (.*)` for GSM8K;
    null: the whole value is. A row without a match, or whose answer is no mathematics, has no score."""
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


def make_score(
    column: str, extract_expected: str | None, format_score: float, seconds: float
) -> Callable[..., list[float | None]]:
    """Make a function that scores completions.

    1.0 for the right answer, `format_score` for another readable one, 0.0 for none; None where the right answer is not
    readable, or `seconds` were not enough.
    """
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of being without its own timeouts
    column_pattern = None if extract_expected is None else compile_pattern(extract_expected)

    def read(text: str) -> list[Any]:
        """The answer as expressions and, last, as a text; empty where there is none."""
        answer: list[Any] = parse(text.replace("\N{MINUS SIGN}", "-"), parsing_timeout=None)
        return answer

    def read_right(text: str) -> list[Any]:
        """The right answer; a text without marks that looks like a formula is read as one."""
        is_marked = any(mark in text for mark in MARKS)
        answer = read(text) if is_marked or "\\" not in text else []
        return answer or (read(f"${text}$") if not is_marked else [])

    def score_text(value: Any, text: str) -> float | None:
        right = right_answer(column_pattern, value)
        if right is None or not (wanted := read_right(right)):
            return None
        answer = read(text)
        if verify(wanted, answer, timeout_seconds=None):
            return 1.0
        return format_score if any(not isinstance(part, str) for part in answer) else 0.0

    def score(completions: Sequence[Completion], **columns: Sequence[Any]) -> list[float | None]:
        return [
            score_in_time(seconds, partial(score_text, value), text_of(completion))
            for completion, value in zip(completions, columns[column], strict=True)
        ]

    return score
