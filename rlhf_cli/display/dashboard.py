"""A live dashboard of a run, redrawn in place on a terminal."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from statistics import fmean
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rlhf_cli.display.lines import Quiet
from rlhf_cli.display.words import flat, held_out_figures, metric, waiting
from rlhf_cli.errors import visible
from rlhf_cli.types import Metrics

SPARKS: Final = "▁▂▃▄▅▆▇█"
CURVES: Final = (  # metric, name, format; the objective leads
    ("objective", "J = reward - β·KL", "{:+z.3f}"),
    ("reward/mean", "reward", "{:+z.3f}"),
    ("kl/seq", "KL, nats", "{:z.2f}"),
    ("policy/entropy", "entropy, nats", "{:z.2f}"),
    ("completion/length", "length, tokens", "{:.1f}"),
)
LOSSES: Final = (
    ("loss", "loss", "{:.4f}"),
    ("grad_norm", "gradient norm", "{:.3f}"),
    ("lr", "learning rate", "{:.1e}"),
)
"""Curves of SFT."""
PAIRS: Final = (
    ("loss", "loss", "{:.4f}"),
    ("accuracy", "accuracy", "{:.1%}"),
    ("margin", "chosen - rejected", "{:+z.3f}"),
    ("grad_norm", "gradient norm", "{:.3f}"),
)
"""Curves of preferences."""
Curve = tuple[str, str, str]
FRAME: Final = 4
"""Columns of the border, with the space inside it."""
GAP: Final = 2
LEAST_BARS: Final = 8


class Dashboard(Quiet):
    """Curves of the metrics, the phase at work, the newest sample and the newest evaluation.

    `past` has the metrics of the steps before, where a run is resumed. The first of the `curves` leads.
    """

    def __init__(
        self, console: Console, title: str, total: int, past: Sequence[Metrics] = (), curves: Sequence[Curve] = CURVES
    ) -> None:
        super().__init__(console, title, total)
        self._shown = curves
        self._curves: dict[str, list[float]] = {name: [] for name, *_ in curves}
        self._phase, self._done, self._ticks = "", 0, 0
        self._step, self._seconds = 0, list[float]()
        self._speed, self._sample = "", ("", "")
        self._held_out, self._waiting = "", ""
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=4)
        for row in past:
            self._add(int(row["step"]), row)

    @contextmanager
    def phase(self, name: str, ticks: int) -> Iterator[Callable[[], None]]:
        """Show the phase and its progress. While a model loads, the progress bar of a download has the terminal."""
        if name.startswith("loading"):
            self.console.print(f"{name} ...")
            yield lambda: None
            return
        self._live.start()
        self._phase, self._done, self._ticks = name, 0, ticks
        yield self._tick

    def step(self, step: int, metrics: Metrics, timings: Metrics, sample: tuple[str, str]) -> None:
        """Add a point to every curve."""
        self._sample = sample
        self._seconds.append(timings["time/step_s"])
        speed = [f"{timings['tokens_per_s']:.0f} tokens/s"] if "tokens_per_s" in timings else []
        self._speed = " · ".join([*speed, f"{timings['time/step_s']:.1f} s"])
        self._add(step, metrics)

    def evaluated(self, step: int, metrics: Metrics) -> None:
        """Show the held-out figures under the rest."""
        self._held_out = f"held-out after step {step}: {held_out_figures(metrics)}"

    def pairs_wait(self, count: int, command: str) -> None:
        """Keep the line under the held-out figures."""
        self._waiting = waiting(count, command) if count else ""

    def close(self) -> None:
        """Leave the dashboard on the terminal, without a phase at work."""
        self._phase, self._ticks = "", 0
        self._live.stop()

    def _add(self, step: int, metrics: Metrics) -> None:
        if step > 0:  # before the first step there is only an evaluation
            self._step = step
            for name, curve in self._curves.items():
                curve.append(metric(metrics, name))
        if held_out_figures(metrics):
            self.evaluated(step, metrics)

    def _tick(self) -> None:
        self._done += 1

    def _draw(self) -> Panel:
        # Not the full width: the terminal's echo of ^C would wrap, and the picture could not be drawn over cleanly.
        width = self.console.width - 3
        parts: list[RenderableType] = [self._draw_progress(), Text()]
        if self._step:
            parts += [self._draw_curves(width - FRAME), Text()]
            prompt, completion = self._sample
            parts += [Text(flat(prompt), style="dim", overflow="ellipsis", no_wrap=True)]
            parts += [Text(flat(completion), overflow="ellipsis", no_wrap=True)]
        if self._held_out:
            parts += [Text(), Text(self._held_out, style="cyan")]
        if self._waiting:
            parts.append(Text(self._waiting, style="magenta"))
        return Panel(Group(*parts), title=Text(visible(self.title)), border_style="blue", padding=(0, 1), width=width)

    def _draw_progress(self) -> RenderableType:
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(width=16, no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(justify="right", width=26, no_wrap=True)
        grid.add_row(f"step {self._step}/{self.total}", ProgressBar(self.total, self._step), self._estimate_rest())
        grid.add_row(
            Text(self._phase, style="dim"),
            ProgressBar(self._ticks, self._done, style="grey23") if self._ticks else "",
            Text(self._speed or (f"{self._done}/{self._ticks}" if self._ticks else ""), style="dim"),
        )
        return grid

    def _estimate_rest(self) -> str:
        """The steps that are left, at the mean time of this process's steps, evaluations and all."""
        left = self.total - self._step
        if left <= 0 or not self._seconds:
            return ""
        minutes, seconds = divmod(int(fmean(self._seconds) * left), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d} left" if hours else f"{minutes}:{seconds:02d} left"

    def _draw_curves(self, room: int) -> RenderableType:
        """A row a curve in `room` columns: the newest value, then the bars between their lowest and highest value."""
        rows = []
        for name, label, form in self._shown:
            curve = self._curves[name]
            rows.append((label, *(_shorten(form, end) for end in (curve[-1], *ends(curve)))))
        head = ("", "now", "low", "high")
        left = room - sum(max(map(len, column)) for column in zip(head, *rows, strict=True)) - GAP * len(head)
        bars = max(left, LEAST_BARS)
        grid = Table.grid(padding=(0, GAP, 0, 0))
        for place in range(len(head) + 1):
            grid.add_column(justify="right" if place in (1, 2) else "left", no_wrap=True)
        grid.add_row(*(Text(word, style="dim") for word in (*head[:3], "", head[3])))
        for (name, *_), (label, now, low, high) in zip(self._shown, rows, strict=True):
            style = "bold" if name == self._shown[0][0] else ""
            spark = sparkline(self._curves[name], bars, max(bars // self.total, 1))
            cells = (label, style), (now, style), (low, "dim"), (spark, "green"), (high, "dim")
            grid.add_row(*(Text(text, style=look) for text, look in cells))
        return grid


def sparkline(values: Sequence[float], width: int = 40, each: int = 1) -> str:
    """The values as a row of at most `width` bars, from the smallest to the largest value; gaps are blank.

    Values that differ by rounding alone all have the lowest bar. A bar is `each` characters wide where all have room;
    more values than room are averaged.
    """
    low, high = ends(values)
    span = math.inf if math.isclose(low, high, rel_tol=1e-6, abs_tol=1e-9) else high - low
    if len(values) > width:
        edges = [round(i * len(values) / width) for i in range(width + 1)]
        known = [[value for value in values[a:b] if math.isfinite(value)] for a, b in pairwise(edges)]
        values = [fmean(part) if part else math.nan for part in known]

    def bar(value: float) -> str:
        return SPARKS[min(int((value - low) / span * len(SPARKS)), len(SPARKS) - 1)] if math.isfinite(value) else " "

    return "".join(bar(value) * (each if len(values) * each <= width else 1) for value in values)


def ends(values: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest finite value; NaN without one."""
    known = [value for value in values if math.isfinite(value)] or [math.nan]
    return min(known), max(known)


def _shorten(form: str, value: float) -> str:
    """The value in a few characters, a dash where it is no number."""
    return "-" if not math.isfinite(value) else form.format(value) if abs(value) < 1e5 else f"{value:.0e}"
