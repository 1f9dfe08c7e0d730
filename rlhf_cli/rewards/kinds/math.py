"""Whether a completion's answer has the value of the one in a column of the data, by the library Math-Verify.

What counts as the answer is the library's own choice: "the final answer is ...", what is boxed, "answer: ...", the last
LaTeX or the last number; several boxes are one set, unless they stand in $. Two answers are the same where sympy can
show it: 1,000 and 1000, 1/2 and 0.5 (to six decimals where one of them is a decimal), x²+1 and 1+x²; and 50 % is both
0.5 and 50. Words are no mathematics, and neither is a number of more than 4300 digits.

Its own timeouts are switched off, since they call "wrong" whatever ran out of time: here that is no score.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from rlhf_cli.errors import UserError
from rlhf_cli.rewards.deadline import in_time
from rlhf_cli.rewards.kinds.base import InProcess
from rlhf_cli.rewards.texts import Completion, Extractor, compiled, expected, text_of

MARKS: Final = ("$", r"\(", r"\[", r"\boxed")
"""By which the library finds LaTeX in a text."""


class Math(InProcess):
    """Numbers and formulas compared by value; needs the extra `math`."""

    target: ClassVar[str] = "rlhf_cli.rewards.kinds.math:scorer"

    kind: Literal["math"]
    column: str = Field(min_length=1)
    """The column of the data with the right answer: numbers, texts, LaTeX with or without $."""
    extract_expected: Extractor | None
    """The group of its last match in the column's value is the right answer, as `#### (.*)` for GSM8K; null: the value
    is. A row without a match, or whose answer is no mathematics, has no score."""
    format_score: float = Field(ge=0, le=1)
    """The score of an answer that can be read, and is wrong."""
    seconds: float = Field(gt=0, le=3600)
    """Of one completion; one that takes longer, on this machine, has no score."""

    @property
    def highest(self) -> float:
        """Of the right answer."""
        return 1.0

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns of the data that it reads."""
        return (self.column,)

    def check(self, key: str) -> None:
        """Raise UserError where the library is not installed."""
        if find_spec("math_verify") is None:
            raise UserError("math-verify is not installed", where=key, fix="pip install 'rlhf-cli[math]'")


def scorer(
    column: str, extract_expected: str | None, format_score: float, seconds: float
) -> Callable[..., list[float | None]]:
    """A function that scores completions.

    1.0 for the right answer, `format_score` for another one that can be read, 0.0 for none; None where nothing readable
    is expected, or `seconds` were not enough.
    """
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of being without its own timeouts
    of_column = None if extract_expected is None else compiled(extract_expected)

    def read(text: str) -> list[Any]:
        """The answer as expressions and, last, as a text; empty where there is none."""
        found: list[Any] = parse(text.replace("\N{MINUS SIGN}", "-"), parsing_timeout=None)
        return found

    def gold(text: str) -> list[Any]:
        """What is expected, read as a formula as a whole wherever it has no marks and looks like one."""
        marked = any(mark in text for mark in MARKS)
        found = read(text) if marked or "\\" not in text else []
        return found or (read(f"${text}$") if not marked else [])

    def judged(value: Any, text: str) -> float | None:
        right = expected(of_column, value)
        if right is None or not (wanted := gold(right)):
            return None
        answer = read(text)
        if verify(wanted, answer, timeout_seconds=None):
            return 1.0
        return format_score if any(not isinstance(found, str) for found in answer) else 0.0

    def score(completions: Sequence[Completion], **columns: Sequence[Any]) -> list[float | None]:
        return [
            in_time(seconds, partial(judged, value), text_of(completion))
            for completion, value in zip(completions, columns[column], strict=True)
        ]

    return score
