"""Reporters that print lines: only notes, one line a step, bars of phases, or JSON."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from rich.console import Console
from rich.progress import Progress

from rlhf_cli.display.printing import print_json
from rlhf_cli.display.words import held_out_figures, step_figures, waiting
from rlhf_cli.errors import visible
from rlhf_cli.reporter import Reporter
from rlhf_cli.types import Metrics

SLOW_S: Final = 60.0
"""Seconds of a phase after which a line says how far it is, and the seconds to the next such line."""


class Quiet(Reporter):
    """Print only notes, on stderr."""

    def __init__(self, console: Console, title: str, total: int) -> None:
        self.console, self.title, self.total = console, title, total

    def note(self, text: str) -> None:
        self.console.print(f"note: {visible(text)}", soft_wrap=True)


class Plain(Quiet):
    """Print one line a step, for pipes and logs."""

    @contextmanager
    def phase(self, name: str, ticks: int) -> Iterator[Callable[[], None]]:
        """Name the phases that are not part of every step; of a long one say every minute how far it is."""
        if name not in ("rollout", "reward", "trainer", "reference", "update", "checkpoint"):
            self._line(f"{name} ...")
        done, due = 0, monotonic() + SLOW_S

        def tick() -> None:
            nonlocal done, due
            done += 1
            if monotonic() >= due:
                due = monotonic() + SLOW_S
                self._line(f"{name}: {done} of {ticks} parts done")

        yield tick

    def step(self, step: int, metrics: Metrics, timings: Metrics, sample: tuple[str, str]) -> None:
        """Print the step, and the evaluation that came with it."""
        result = step_figures(metrics) or "nothing learned"
        self._line(f"step {step}/{self.total}  {result}  {timings['time/step_s']:.1f} s")
        if held_out_figures(metrics):
            self.evaluated(step, metrics)

    def evaluated(self, step: int, metrics: Metrics) -> None:
        self._line(f"step {step}/{self.total}  held-out: {held_out_figures(metrics)}")

    def pairs_wait(self, count: int, command: str) -> None:
        if count:
            self._line(waiting(count, command))

    def _line(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)


class PhaseBars(Plain):
    """Show a bar for each phase on a terminal, and its name elsewhere."""

    @contextmanager
    def phase(self, name: str, ticks: int) -> Iterator[Callable[[], None]]:
        """Show the progress of a phase that has parts."""
        if not ticks or not self.console.is_terminal:
            self._line(f"{name} ...")
            yield lambda: None
            return
        with Progress(console=self.console, transient=True) as bars:
            bar = bars.add_task(name, total=ticks)
            yield lambda: bars.advance(bar)


class JsonLines(Quiet):
    """Print the lines of metrics.jsonl on stdout."""

    def step(self, step: int, metrics: Metrics, timings: Metrics, sample: tuple[str, str]) -> None:
        self.evaluated(step, metrics)

    def evaluated(self, step: int, metrics: Metrics) -> None:
        print_json({"step": step, **metrics})
