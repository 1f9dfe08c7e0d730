"""How positive a completion reads: the compound score of VADER (Hutto and Gilbert 2014), in [-1, 1].

A lexicon with rules, not a model: it runs anywhere in microseconds, and it can be gamed (exclamation marks, piles of
kind words). That is what the KL to the reference is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rlhf_cli.rewards.kinds.base import Plain
from rlhf_cli.types import PromptRow


class Sentiment(Plain):
    """VADER's compound score."""

    kind: Literal["sentiment"]

    @property
    def highest(self) -> float:
        """What VADER's compound score can reach."""
        return 1.0

    def score(self, prompts: Sequence[PromptRow], completions: Sequence[str]) -> list[float]:
        """One compound score in [-1, 1] a completion; 0 for an empty one."""
        from vader import polarity_scores

        return [polarity_scores(text)["compound"] for text in completions]
