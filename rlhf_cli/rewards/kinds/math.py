"""Whether a completion's answer has the same value as the one in a column of the data; by the library Math-Verify.

The right answer is read as a whole: one number, or one expression. In a completion the answer stands in
<answer>...</answer>, in a box, behind "answer is", "answer:" or ####, or is the last line; else the library chooses the
last LaTeX or the last number. Several boxes are one set, unless they stand in $. Two answers are the same where sympy
can show it: 1,000 and 1000, 1/2 and 0.5 (to six decimals where one of them is a decimal), x²+1 and 1+x²; 50 % is both
0.5 and 50; units and currencies do not count. Sentences are no mathematics, and neither is a number of more than 4300
digits. Decimals near zero are the same where three of their digits are: to six places they all are zero.

The library's own timeouts are off: they would call an answer wrong that took too long. Here it has no score.
"""

import logging
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from rlhf_cli.errors import UserError
from rlhf_cli.rewards.deadline import score_in_time
from rlhf_cli.rewards.formulas import (
    is_plain_number,
    may_be_readable,
    read_answer,
    read_expected,
    read_part,
    surest_part,
)
from rlhf_cli.rewards.kinds.answer import AnswerSource
from rlhf_cli.rewards.texts import extract_answer, right_answer

NEAR_ZERO: Final = 2e-4
"""The size below which six decimals, by which the library compares, are less than three digits."""
DIGITS: Final = 5e-3
"""The largest difference of two numbers that agree in three digits, over the larger one."""
_NO_MATHEMATICS: Final = "is neither one number nor one expression"


class Math(AnswerSource):
    """Compare numbers and formulas, LaTeX with or without $, by value; needs the extra `math`."""

    factory: ClassVar[str] = "rlhf_cli.rewards.kinds.math:make_score"

    kind: Literal["math"]
    format_score: float = Field(ge=0, le=1)
    """The score of an answer that is readable but wrong."""

    def check(self, key: str) -> None:
        """Raise UserError where the library is not installed."""
        if find_spec("math_verify") is None:
            raise UserError("math-verify is not installed", where=key, fix="pip install 'rlhf-cli[math]'")

    def wrong_value(self, value: Any, *, quick: bool = False) -> str | None:
        """Say why a row's right answer cannot be used: there is none, or it is no mathematics."""
        if wrong := super().wrong_value(value, quick=quick):
            return wrong
        right = right_answer(self.extract_expected, value)
        if right is None or is_plain_number(right):
            return None
        if not may_be_readable(right):
            return _NO_MATHEMATICS
        return None if quick else _why_unreadable(right, self.seconds)

    def answer(self, text: str) -> str | None:
        """The answer that `extract` finds in a completion, or else the part that looks most like one."""
        return super().answer(text) if self.extract is not None else surest_part(text).strip()


def make_score(**settings: Any) -> Callable[..., list[float | None]]:
    """Make a function that scores completions.

    1.0 for the right answer, `format_score` for another readable one, 0.0 for none; None where the right answer is not
    readable, or `seconds` were not enough.
    """
    own = Math.model_construct(**settings)
    _prepare()

    def score_text(value: Any, text: str) -> float | None:
        right = right_answer(own.extract_expected, value)
        if right is None or not (expected := read_expected(right)):
            return None
        extracted, read = extract_answer(own.extract, text), read_answer if own.extract is None else read_part
        answer = [] if extracted is None else read(extracted)
        if _has_same_value(expected, answer):
            return 1.0
        return own.format_score if any(not isinstance(part, str) for part in answer) else 0.0

    return own.scoring(score_text)


def _has_same_value(expected: list[Any], answer: list[Any]) -> bool:
    """Whether the library finds two answers the same, and numbers near zero agree in their digits too."""
    from math_verify import verify
    from sympy import Expr

    if not verify(expected, answer, timeout_seconds=None):
        return False
    values = [part[0] for part in (expected, answer) if isinstance(part[0], Expr) and part[0].is_number]
    numbers = [value.evalf() for value in values if value.is_real]
    if len(numbers) < 2 or not all(numbers) or max(map(abs, numbers)) >= NEAR_ZERO:
        return True
    return bool(abs(numbers[0] - numbers[1]) <= DIGITS * max(map(abs, numbers)))


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
