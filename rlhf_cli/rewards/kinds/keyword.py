"""The share of wanted words or phrases that a completion contains, less the share of unwanted ones."""

import re
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from rlhf_cli.rewards.kinds.base import PlainSource
from rlhf_cli.settings import IS_PROSE, Names
from rlhf_cli.types import PromptRow


def _without_empty(words: tuple[str, ...]) -> tuple[str, ...]:
    if not all(word.strip() for word in words):
        raise ValueError("must not have an empty word: every text contains it")
    return words


Words = Annotated[Names, AfterValidator(_without_empty), IS_PROSE]
"""Words or phrases, as they stand in a text; none is empty."""


class Keyword(PlainSource):
    """The share of `words` that occur, less the share of `avoid` that occur; how often does not matter."""

    highest: ClassVar[float] = 1.0
    searched_settings: ClassVar[tuple[str, ...]] = ("words", "avoid")
    kind: Literal["keyword"]
    words: Annotated[Words, Field(min_length=1)]
    """Wanted words or phrases, white space as written. A word that is listed twice counts once."""
    avoid: Words
    """Unwanted words or phrases; the list may be empty."""
    case_sensitive: bool
    """Whether capitals matter."""
    whole_words: bool
    """Whether only whole words count, so that `party` does not contain `art`: no letter, digit or underscore may stand
    beside the word."""

    def score(self, prompts: Sequence[PromptRow], completions: Sequence[str]) -> list[float]:
        """A score in [-1, 1] for each completion; 0 for an empty one."""
        words, avoid = self._patterns(self.words), self._patterns(self.avoid)
        texts = map(self._case, completions)
        return [_share(words, text) - _share(avoid, text) for text in texts]

    def _patterns(self, words: tuple[str, ...]) -> list[re.Pattern[str]]:
        literals = [re.escape(word) for word in sorted({self._case(word) for word in words})]
        return [re.compile(rf"(?<!\w){literal}(?!\w)" if self.whole_words else literal) for literal in literals]

    def _case(self, text: str) -> str:
        return text if self.case_sensitive else text.casefold()


def _share(patterns: Sequence[re.Pattern[str]], text: str) -> float:
    return sum(pattern.search(text) is not None for pattern in patterns) / max(len(patterns), 1)
