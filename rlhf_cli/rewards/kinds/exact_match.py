"""Whether a completion's answer equals the one in a column of the data: 1 or 0.

Texts are compared letter by letter, and a number in the data by its value.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, ClassVar, Final, Literal

from rlhf_cli.rewards.kinds.answer import AnswerSource
from rlhf_cli.rewards.texts import extract_answer, right_answer

FINAL_PUNCTUATION: Final = ".,;:!?…"
_NUMBER: Final = re.compile(r"[+-]?(?:10(?:\^|\*\*)\d{1,9}|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9})?)", re.ASCII)
"""A decimal number. Its exponent is bounded, and never written out: comparing it costs nothing."""


class ExactMatch(AnswerSource):
    """Compare the answers of completion and data as texts: 1,000 is not 1000 (use `math` for that).

    A number in the data, which is no text, equals each decimal of its value: 72 is 72.0, and 1e22 is 10^22.
    """

    factory: ClassVar[str] = "rlhf_cli.rewards.kinds.exact_match:make_score"

    kind: Literal["exact_match"]
    ignore_case: bool
    """Whether capitals do not matter."""
    strip: bool
    """Whether white space around an answer, and punctuation at its end, do not matter."""


def make_score(**settings: Any) -> Callable[..., list[float | None]]:
    """Make a function that scores completions: 1.0, 0.0, or None without a right answer or after `seconds`."""
    own = ExactMatch.model_construct(**settings)

    def normalise(text: str) -> str:
        text = text.casefold() if own.ignore_case else text
        return text.strip().rstrip(FINAL_PUNCTUATION).rstrip() if own.strip else text

    def score_text(value: Any, text: str) -> float | None:
        right, answer = right_answer(own.extract_expected, value), extract_answer(own.extract, text)
        if right is None:
            return None
        if answer is None:
            return 0.0
        answer, right = normalise(answer), normalise(right)
        is_number = own.extract_expected is None and isinstance(value, int | float)
        return float(answer == right or (is_number and is_same_number(answer, right)))

    return own.scoring(score_text)


def is_same_number(answer: str, right: str) -> bool:
    """Whether two texts are decimal numbers of the same value: 1e22 and 10^22."""
    numbers = [re.sub(r"10(\^|\*\*)", "1e", text) for text in (answer, right) if _NUMBER.fullmatch(text)]
    return len(numbers) == 2 and Decimal(numbers[0]) == Decimal(numbers[1])
