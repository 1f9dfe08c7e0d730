"""The base of rewards that compare the answer in a completion with the right one in a column of the data."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from pydantic import Field

from rlhf_cli.rewards.deadline import score_each
from rlhf_cli.rewards.kinds.base import IsolatedSource
from rlhf_cli.rewards.texts import Completion, Extractor, extract_answer, right_answer


class AnswerSource(IsolatedSource):
    """A source that knows the right answer of each row."""

    highest: ClassVar[float] = 1.0
    searched_settings: ClassVar[tuple[str, ...]] = ("extract",)

    column: str = Field(min_length=1)
    """The column of the data with the right answer: a text or a number; COLUMN.FIELD for a field of an object."""
    extract: Extractor | None = None
    """A pattern whose group, at its last match in a completion, is the answer; without a match the score is 0. null:
    exact_match takes the whole completion, math looks in <answer>, in a box, behind "answer is" or ####, and in the
    last line."""
    extract_expected: Extractor | None
    """A pattern whose group, at its last match in the column's value, is the right answer, as `#### (.*)` for GSM8K;
    null: the whole value is. A row without a match is refused before the run, or has no score under on_error=mask."""
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
        return "has no match for extract_expected" if right_answer(self.extract_expected, value) is None else None

    def answer(self, text: str) -> str | None:
        """The answer that `extract` finds in a completion, or else the whole text."""
        answer = extract_answer(self.extract, text)
        return None if answer is None else answer.strip()

    def scoring(self, score_text: Callable[[Any, str], float | None]) -> Callable[..., list[float | None]]:
        """The function that scores completions by their rows' right answers, each with `score_text(value, text)`."""

        def score(completions: Sequence[Completion], **columns: Sequence[Any]) -> list[float | None]:
            return score_each(self.seconds, score_text, completions, columns[self.column])

        return score
