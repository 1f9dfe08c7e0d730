"""The messages of a run to its reporter. The display implements reporters; `Silent` shows nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rlhf_cli.evaluation.optimum import Optimum


class Reporter(Protocol):
    """Shows a run while it works."""

    def note(self, text: str) -> None:
        """A message worth a line."""
        ...

    def phase(self, name: str, ticks: int) -> AbstractContextManager[Callable[[], None]]:
        """A stretch of work. Call the result after each of its parts, at most `ticks` times."""
        ...

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """The policy was evaluated before its first step."""
        ...

    def optimum(self, step: int, found: Optimum) -> None:
        """The optimum for the evaluation that was shown last."""
        ...

    def step(
        self, step: int, metrics: Mapping[str, float], timings: Mapping[str, float], sample: tuple[str, str]
    ) -> None:
        """A step is complete; `sample` is a prompt and its completion."""
        ...


class Silent:
    """A reporter that shows nothing; others override what they show."""

    def note(self, text: str) -> None:
        """Show nothing."""

    @contextmanager
    def phase(self, name: str, ticks: int) -> Iterator[Callable[[], None]]:
        """Show nothing."""
        yield lambda: None

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show nothing."""

    def optimum(self, step: int, found: Optimum) -> None:
        """Show nothing."""

    def step(
        self, step: int, metrics: Mapping[str, float], timings: Mapping[str, float], sample: tuple[str, str]
    ) -> None:
        """Show nothing."""
