"""A live dashboard of a run, redrawn in place on a terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rlhf_cli.display.lines import Quiet
from rlhf_cli.display.words import figures, flat, metric
from rlhf_cli.errors import visible
from rlhf_cli.types import Metrics

SPARKS: Final = "▁▂▃▄▅▆▇█"
CURVES: Final = (  # metric, name, format; the objective leads
    ("objective", "J = reward - β·KL", "{:+.3f}"),
    ("reward/mean", "reward", "{:+.3f}"),
    ("kl/seq", "KL, nats", "{:.2f}"),
    ("policy/entropy", "entropy, nats", "{:.2f}"),
    ("completion/length", "length, tokens", "{:.1f}"),
)


class Dashboard(Quiet):
    """Curves of the metrics, the phase at work, the newest sample and the newest evaluation."""

    def __init__(self, console: Console, title: str, total: int) -> None:
        super().__init__(console, title, total)
        self._curves: dict[str, list[float]] = {name: [] for name, *_ in CURVES}
        self._phase, self._done, self._ticks = "", 0, 0
        self._step, self._first, self._began = 0, 0, time.monotonic()
        self._speed, self._sample = "", ("", "")
        self._held_out = ""
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=4, transient=True)

    @contextmanager
    def phase(self, name: str, ticks: int) -> Iterator[Callable[[], None]]:
        """Show the phase and its progress. While a model loads, the progress bar of a download has the terminal."""
        if name.startswith("loading"):
            self.console.print(f"{name} ...", markup=False)
            yield lambda: None
            return
        self._live.start()
        self._phase, self._done, self._ticks = name, 0, ticks
        yield self._tick

    def step(self, step: int, metrics: Metrics, timings: Metrics, sample: tuple[str, str]) -> None:
        """Add a point to every curve."""
        if not self._step:
            self._first, self._began = step, time.monotonic()
        self._step, self._sample = step, sample
        self._speed = f"{timings['tokens_per_s']:.0f} tokens/s · {timings['time/step_s']:.1f} s"
        for name, curve in self._curves.items():
            curve.append(metric(metrics, name))
        if "eval/objective" in metrics:
            self.evaluated(step, metrics)

    def evaluated(self, step: int, metrics: Metrics) -> None:
        """Show the held-out figures under the rest."""
        self._held_out = f"held-out after step {step}: {figures(metrics, 'eval/')}"

    def close(self) -> None:
        """Remove the dashboard from the terminal."""
        self._live.stop()

    def _tick(self) -> None:
        self._done += 1

    def _picture(self) -> RenderableType:
        parts: list[RenderableType] = [self._progress(), Text()]
        if self._step:
            parts += [self._metrics(), Text()]
            prompt, completion = self._sample
            parts += [Text(flat(prompt), style="dim", overflow="ellipsis", no_wrap=True)]
            parts += [Text(flat(completion), overflow="ellipsis", no_wrap=True)]
        if self._held_out:
            parts += [Text(), Text(self._held_out, style="cyan")]
        # Not the full width: the terminal's echo of ^C would wrap, and the picture could not be taken down cleanly.
        width = min(self.console.width - 3, 120)
        return Panel(Group(*parts), title=escape(visible(self.title)), border_style="blue", padding=(0, 1), width=width)

    def _progress(self) -> RenderableType:
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(width=16, no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(justify="right", width=26, no_wrap=True)
        grid.add_row(f"step {self._step}/{self.total}", ProgressBar(self.total, self._step), self._remaining())
        grid.add_row(
            Text(self._phase, style="dim"),
            ProgressBar(self._ticks, self._done, style="grey23") if self._ticks else "",
            Text(self._speed, style="dim"),
        )
        return grid

    def _remaining(self) -> str:
        done = self._step - self._first
        if done < 1:
            return ""
        seconds = int((time.monotonic() - self._began) / done * (self.total - self._step))
        return f"{seconds // 60}:{seconds % 60:02d} left"

    def _metrics(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        for name, label, form in CURVES:
            curve = self._curves[name]
            style = "bold" if name == "objective" else ""
            grid.add_row(
                Text(label, style=style),
                Text(form.format(curve[-1]), style=style),
                Text(sparkline(curve), style="green"),
            )
        return grid


def sparkline(values: list[float], width: int = 40) -> str:
    """The values as a row of at most `width` bars, from the smallest to the largest value; gaps are blank."""
    if len(values) > width:
        edges = [round(i * len(values) / width) for i in range(width + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    known = [value for value in values if math.isfinite(value)] or [0.0]
    low, span = min(known), (max(known) - min(known)) or 1.0

    def bar(value: float) -> str:
        return SPARKS[min(int((value - low) / span * len(SPARKS)), len(SPARKS) - 1)] if math.isfinite(value) else " "

    return "".join(map(bar, values))
