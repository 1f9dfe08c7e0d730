"""How near a completion's length comes to a target; a target of 0 rewards brevity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from pydantic import Field

from rlhf_cli.rewards.kinds.base import Plain
from rlhf_cli.types import PromptRow

ENDS: Final = (".", "!", "?", "…", "。", "！", "？")
CLOSING: Final = "\"'”’»)]}*_"
"""What may stand after the end of a sentence: quotes, brackets, and Markdown's emphasis."""


def sentences(text: str) -> int:
    """Sentences of a language that puts spaces between them: runs of words up to one that ends in . ! ? or the like.

    3.14 is no end, "..." alone no sentence, and what is left without an end at the end counts as one.
    """
    count, begun = 0, False
    for word in text.split():
        begun = begun or any(c.isalnum() for c in word)
        if begun and word.rstrip(CLOSING).endswith(ENDS):
            count, begun = count + 1, False
    return count + begun


def _words(text: str) -> int:
    return len(text.split())


COUNTS: Final[Mapping[str, Callable[[str], int]]] = {"words": _words, "characters": len, "sentences": sentences}


class Length(Plain):
    """1 / (1 + ((n - target) / width)²) of a length n.

    1 at the target and 0.5 at a distance of `width`. It is smooth, and never quite 0: of two completions that are far
    off, the nearer one still scores higher.
    """

    kind: Literal["length"]
    unit: Literal["words", "characters", "sentences"]
    """What is counted; words are what white space separates."""
    target: int = Field(ge=0)
    """The length that scores 1; 0 rewards brevity."""
    width: float = Field(gt=0)
    """How far from the target the score is 0.5."""

    @property
    def highest(self) -> float:
        """At the target."""
        return 1.0

    def score(self, prompts: Sequence[PromptRow], completions: Sequence[str]) -> list[float]:
        """One score in [0, 1] a completion."""
        count = COUNTS[self.unit]
        distances = [(count(text) - self.target) / self.width for text in completions]
        return [1 / (1 + distance * distance) for distance in distances]
