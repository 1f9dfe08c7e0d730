"""The compound score of VADER (Hutto and Gilbert 2014), how positive a completion reads, in [-1, 1].

VADER is a lexicon with rules, not a model. It runs anywhere in microseconds, and a policy can game it with exclamation
marks and piles of kind words; the KL to the reference works against that.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from rlhf_cli.rewards.kinds.base import PlainSource
from rlhf_cli.types import PromptRow


class Sentiment(PlainSource):
    """VADER's compound score."""

    highest: ClassVar[float] = 1.0

    kind: Literal["sentiment"]

    def score(self, prompts: Sequence[PromptRow], completions: Sequence[str]) -> list[float]:
        """A compound score in [-1, 1] for each completion; 0 for an empty one."""
        from vader import polarity_scores

        return [polarity_scores(text)["compound"] for text in completions]
