"""Reward: the closeness of a completion's length to a target. A target of 0 rewards brevity."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final, Literal

from pydantic import Field

from rlhf_cli.rewards.kinds.base import PlainSource
from rlhf_cli.types import PromptRow

ENDS: Final = (".", "!", "?", "…", "。", "！", "？")
CLOSING: Final = "\"'”’»)]}*_"
"""Characters that may follow the end of a sentence: quotes, brackets, and Markdown's emphasis."""


def count_sentences(text: str) -> int:
    """Count the sentences of a text with spaces between its words. A sentence ends with a word that ends in . ! ? or …

    3.14 ends no sentence, "..." alone is none, and a last sentence without a period counts.
    """
    count, is_inside = 0, False
    for word in text.split():
        is_inside = is_inside or any(c.isalnum() for c in word)
        if is_inside and word.rstrip(CLOSING).endswith(ENDS):
            count, is_inside = count + 1, False
    return count + is_inside


COUNTS: Final[Mapping[str, Callable[[str], int]]] = {
    "words": lambda text: len(text.split()),
    "characters": len,
    "sentences": count_sentences,
}


class Length(PlainSource):
    """The score 1 / (1 + ((n - target) / width)²) for a length n.

    It is 1 at the target and 0.5 at a distance of `width`. It never reaches 0: of two completions far from the target,
    the nearer one still scores higher.
    """

    highest: ClassVar[float] = 1.0
    kind: Literal["length"]
    unit: Literal["words", "characters", "sentences"]
    """The unit to count; white space separates words."""
    target: int = Field(ge=0)
    """The length that scores 1; 0 rewards brevity."""
    width: float = Field(gt=0, allow_inf_nan=False)
    """The distance from the target at which the score is 0.5."""

    def score(self, prompts: Sequence[PromptRow], completions: Sequence[str]) -> list[float]:
        """A score in [0, 1] for each completion."""
        count = COUNTS[self.unit]
        distances = [(count(text) - self.target) / self.width for text in completions]
        return [1 / (1 + distance * distance) for distance in distances]
