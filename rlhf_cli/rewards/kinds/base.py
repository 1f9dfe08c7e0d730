"""The base classes of all sources of scores.

A `PlainSource` is a function of the texts, and cannot fail. A source that can fail (a user's code, a server, a library
that may hang) is an `IsolatedSource`: it runs in a process of its own, which can be killed.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from rlhf_cli.settings import Finite, Settings
from rlhf_cli.types import PromptRow


class Source(Settings):
    """A source of scores."""

    @property
    def highest(self) -> float:
        """The highest possible score; infinity where it is unknown."""
        return math.inf

    @property
    def is_repeatable(self) -> bool:
        """Whether the same text gets the same score again; a user's function should, for a resume counts on it too."""
        return True

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns of the data that the source cannot do without."""
        return ()

    @property
    def columns_read(self) -> tuple[str, ...] | None:
        """The columns of the data that the source may read; None: any of them."""
        return self.needs

    fix_of_columns: ClassVar[str] = "name a column: {key}.column=COLUMN"
    """The fix where the data lacks a column of `needs`."""

    searched_settings: ClassVar[tuple[str, ...]] = ()
    """The names of the settings that hold `strings`."""

    @property
    def strings(self) -> tuple[str, ...]:
        """The patterns, words and texts that the source looks for in completions."""
        values = [getattr(self, name) for name in self.searched_settings]
        return tuple(text for value in values for text in ((value,) if isinstance(value, str) else value or ()))

    def check(self, key: str) -> None:
        """Raise UserError where something that the source needs is missing; `key` is where its settings stand."""

    def wrong_value(self, value: Any, *, quick: bool = False) -> str | None:
        """Say why a row's value in a column of `needs` is unusable, to continue a sentence after the value; else None.

        `quick` leaves out what may take more than a millisecond.
        """
        return "is missing" if value is None else None

    def answer(self, text: str) -> str | None:
        """The final answer in a completion, on which a majority votes by its letters; None where there is none."""
        return text.strip()

    def notice(self, log: str | None = None) -> str | None:
        """A note to show before the source is first asked, or None; `log` is the file of the source's output."""
        return None


class PlainSource(Source):
    """A function of the texts, cheap and safe; it runs in the process of the run."""

    @abstractmethod
    def score(self, prompts: Sequence[PromptRow], completions: Sequence[str]) -> list[float]:
        """Score each completion; neither the other completions nor their order may matter."""


class IsolatedSource(Source):
    """A source that can hang, crash, or have no score for a completion; it runs in a process of its own."""

    timeout_s: float = Field(gt=0, le=86_400)
    """Seconds that one call may take, and the start of the process."""
    retries: int = Field(ge=0)
    """Times that a call which failed is made again."""
    on_error: Literal["stop", "mask", "value"]
    """For a completion without a usable score: end the run, leave its prompt out of the step, or take error_value."""
    error_value: float = Field(ge=-1e18, le=1e18, allow_inf_nan=False)
    """The score of a completion without a usable one, under on_error=value."""

    factory: ClassVar[str] = ""
    """`module:function` that the process calls once with the settings; it returns the function that scores. They are
    checked, in JSON's types: to check them again would add a sixth to the time that the process starts in."""


class RangedSource(IsolatedSource):
    """A source whose highest score only its user can know."""

    best: Finite | None
    """The highest possible score; null: unknown."""

    @property
    def highest(self) -> float:
        """`best`, or infinity where it is unknown."""
        return math.inf if self.best is None else self.best


def highest_given(source: Source) -> float:
    """The highest score that a completion can get from a source: its highest, or that of on_error=value."""
    if isinstance(source, IsolatedSource) and source.on_error == "value":
        return max(source.highest, source.error_value)
    return source.highest


class Unanswered(Exception):
    """A whole batch has no answer this time. Its completions are not tried one by one.

    `retry_after_s`: seconds until another try makes sense; None: it would not help.
    """

    def __init__(self, what: str, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(what)
