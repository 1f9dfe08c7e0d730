"""The share of a completion's characters that belong to a set; a random model can learn it within seconds."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from rlhf_cli.rewards.kinds.base import PlainSource
from rlhf_cli.settings import IS_PROSE
from rlhf_cli.types import PromptRow


class Characters(PlainSource):
    """The share of characters that belong to a set."""

    highest: ClassVar[float] = 1.0
    kind: Literal["characters"]
    characters: Annotated[str, IS_PROSE] = Field(min_length=1)
    """The characters that count."""

    def score(self, prompts: Sequence[PromptRow], completions: Sequence[str]) -> list[float]:
        """A share in [0, 1] for each completion; 0 for an empty one."""
        wanted = frozenset(self.characters)
        return [sum(c in wanted for c in text) / max(len(text), 1) for text in completions]
