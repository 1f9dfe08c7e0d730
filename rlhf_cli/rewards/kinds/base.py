"""What every source of scores can say about itself before it is asked, and which kinds of sources there are.

A `Plain` one is a function of the texts, and cannot fail. One that can (a user's code, a server, a library that may
hang) is `InProcess`: it runs in a process of its own, which can be killed.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from rlhf_cli.settings import Settings
from rlhf_cli.types import PromptRow


class Source(Settings):
    """Where scores come from."""

    @property
    def highest(self) -> float:
        """The highest score there is; infinity where nobody knows."""
        return math.inf

    @property
    def needs(self) -> tuple[str, ...]:
        """The data's columns that it cannot do without."""
        return ()

    def check(self, key: str) -> None:
        """Raise UserError where something that it needs is not there, as far as a look tells; `key` holds it."""

    def notice(self, log: str = "") -> str:
        """What to say before it is asked for the first time; `log` is the file that has what it prints, if any."""
        return ""


class Plain(Source):
    """A function of the texts, cheap and safe: it is called where it stands."""

    @abstractmethod
    def score(self, prompts: Sequence[PromptRow], completions: Sequence[str]) -> list[float]:
        """One score a completion; neither its neighbours nor their order may matter."""


class InProcess(Source):
    """One that can hang, break off, or have no score for a completion: it runs in a process of its own."""

    timeout_s: float = Field(gt=0, le=86_400)
    """Seconds that one call may take, or setting it up."""
    retries: int = Field(ge=0)
    """How often a call that failed is made again."""
    on_error: Literal["stop", "mask", "value"]
    """Of a completion without a usable score: end the run, leave its prompt out of the step, or take error_value."""
    error_value: float = Field(ge=-1e18, le=1e18, allow_inf_nan=False)
    """The score of such a completion under on_error=value."""

    target: ClassVar[str] = ""
    """`module:factory` of ours: called once with `options()`, it gives the function that scores."""

    def options(self) -> dict[str, Any]:
        """What the factory is given, in JSON's types: its own settings, by name."""
        return self.model_dump(mode="json", exclude={"kind", *InProcess.model_fields})


class Unanswered(Exception):
    """A whole batch has no answer this time, whoever is to blame; it is not asked for one by one.

    `after_s`: another try makes sense after so many seconds; None: it would be of no use.
    """

    def __init__(self, what: str, after_s: float | None = None) -> None:
        self.after_s = after_s
        super().__init__(what)
