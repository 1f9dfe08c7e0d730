"""Whether a completion's answer is, letter by letter, the one in a column of the data: 1 or 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from rlhf_cli.rewards.deadline import in_time
from rlhf_cli.rewards.kinds.base import InProcess
from rlhf_cli.rewards.texts import Completion, Extractor, compiled, expected, extracted, text_of

FINAL: Final = ".,;:!?…"


class ExactMatch(InProcess):
    """The answers of completion and data compared as texts: 1,000 is not 1000 (that is what `math` is for)."""

    target: ClassVar[str] = "rlhf_cli.rewards.kinds.exact_match:scorer"

    kind: Literal["exact_match"]
    column: str = Field(min_length=1)
    """The column of the data with the right answer: texts or numbers."""
    extract: Extractor | None
    """The group of its last match in a completion is the answer, and without a match the score is 0; null: the whole
    completion is."""
    extract_expected: Extractor | None
    """The same of the column's value, as `#### (.*)` for GSM8K; a row without a match has no score."""
    ignore_case: bool
    """Whether capitals do not matter."""
    strip: bool
    """Whether white space around an answer, and punctuation at its end, do not matter."""
    seconds: float = Field(gt=0, le=3600)
    """Of one completion; one that takes longer has no score."""

    @property
    def highest(self) -> float:
        """Of the right answer."""
        return 1.0

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns of the data that it reads."""
        return (self.column,)


def scorer(
    column: str, extract: str | None, extract_expected: str | None, ignore_case: bool, strip: bool, seconds: float
) -> Callable[..., list[float | None]]:
    """A function that scores completions: 1.0, 0.0, or None where nothing is expected or `seconds` were not enough."""
    of_completion = None if extract is None else compiled(extract)
    of_column = None if extract_expected is None else compiled(extract_expected)

    def plain(text: str) -> str:
        text = text.casefold() if ignore_case else text
        return text.strip().rstrip(FINAL).rstrip() if strip else text

    def judged(value: Any, text: str) -> float | None:
        right, answer = expected(of_column, value), extracted(of_completion, text)
        if right is None:
            return None
        return 1.0 if answer is not None and plain(answer) == plain(right) else 0.0

    def score(completions: Sequence[Completion], **columns: Sequence[Any]) -> list[float | None]:
        return [
            in_time(seconds, partial(judged, value), text_of(completion))
            for completion, value in zip(completions, columns[column], strict=True)
        ]

    return score
