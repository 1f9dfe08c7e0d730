"""No reward: every completion scores 0, and the KL to the reference is all that there is to learn from."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from rlhf_cli.rewards.kinds.base import PlainSource
from rlhf_cli.types import PromptRow


class NoReward(PlainSource):
    """0 for every completion: J is -beta KL(policy || reference)."""

    highest: ClassVar[float] = 0.0
    kind: Literal["none"]

    def score(self, prompts: Sequence[PromptRow], completions: Sequence[str]) -> list[float]:
        """0 for each completion."""
        return [0.0 for _ in completions]
