"""What is to be done about a reward that fails: shared by all that can."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from importlib import import_module
from typing import Any, ClassVar, Literal

from pydantic import Field

from rlhf_cli.settings import Settings
from rlhf_cli.types import PromptRow


class MayFail(Settings):
    """A reward that can hang, break off, or have no score for a completion."""

    timeout_s: float = Field(gt=0, le=86_400)
    """Seconds that one call may take, or importing the function."""
    retries: int = Field(ge=0)
    """How often a call that failed is made again."""
    on_error: Literal["stop", "mask", "value"]
    """Of a completion without a usable score: end the run, leave its prompt out of the step, or take error_value."""
    error_value: float = Field(ge=-1e18, le=1e18, allow_inf_nan=False)
    """The score of such a completion under on_error=value."""


class InProcess(MayFail):
    """STAND-IN, to be replaced: a reward of ours that runs in a process of its own; here it runs in this one."""

    target: ClassVar[str]

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The arguments of the target, JSON-able."""

    def score(self, prompts: Sequence[PromptRow], completions: Sequence[str]) -> list[float | None]:
        module, _, name = self.target.rpartition(":")
        names = getattr(self, "needs", ())
        columns = {name: [row.columns.get(name) for row in prompts] for name in names}
        scores: list[float | None] = getattr(import_module(module), name)(**self.options())(
            completions=completions, **columns
        )
        return scores
