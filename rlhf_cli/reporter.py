"""The events of a run that a reporter may show. This reporter shows nothing; those of display/ do."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rlhf_cli.types import Metrics


class Reporter:
    """Takes the events of a run and shows nothing; a subclass overrides those that it shows."""

    def note(self, text: str) -> None:
        """A message for the user, one line."""

    def note_all(self, texts: Iterable[str]) -> None:
        """Some messages, in their order."""
        for text in texts:
            self.note(text)

    @contextmanager
    def phase(self, name: str, ticks: int) -> Iterator[Callable[[], None]]:
        """Show a stretch of work while the context is open. It gives a function to call after each of `ticks` parts."""
        yield lambda: None

    def evaluated(self, step: int, metrics: Metrics) -> None:
        """The policy was evaluated before its first step."""

    def step(self, step: int, metrics: Metrics, timings: Metrics, sample: tuple[str, str]) -> None:
        """A step is complete; `sample` is a prompt and its completion."""

    def pairs_wait(self, count: int, command: str) -> None:
        """A number of pairs of completions waits for a person's vote, which the command asks for."""

    def close(self) -> None:
        """The run has ended: leave the terminal as it was before."""
