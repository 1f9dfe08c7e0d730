"""The messages of a run to its reporter. The one here shows nothing; the display has those that show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rlhf_cli.types import Metrics


class Reporter:
    """Hears how a run gets on, and shows nothing; others override what they show."""

    def note(self, text: str) -> None:
        """A message worth a line."""

    @contextmanager
    def phase(self, name: str, ticks: int) -> Iterator[Callable[[], None]]:
        """A stretch of work. Call the result after each of its parts, at most `ticks` times."""
        yield lambda: None

    def evaluated(self, step: int, metrics: Metrics) -> None:
        """The policy was evaluated before its first step."""

    def step(self, step: int, metrics: Metrics, timings: Metrics, sample: tuple[str, str]) -> None:
        """A step is complete; `sample` is a prompt and its completion."""

    def close(self) -> None:
        """The run has ended: leave the terminal as it was before."""
