"""What a person sees: a live dashboard on a terminal, one plain line a step elsewhere, the last table at the end.

Messages and progress go to stderr, results to stdout.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress import Progress
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rlhf_cli.errors import visible
from rlhf_cli.functional.intervals import Estimate
from rlhf_cli.functional.optimum import Optimum
from rlhf_cli.metrics import finite
from rlhf_cli.pipeline.oracle import BestOf, CurvePoint, Oracle
from rlhf_cli.pipeline.reporter import Reporter
from rlhf_cli.pipeline.result import Result
from rlhf_cli.report.chart import Chart, Series
from rlhf_cli.report.text import rows

SPARKS: Final = "▁▂▃▄▅▆▇█"
CURVES: Final = (  # metric, name, format; the objective leads
    ("objective", "J = reward - β·KL", "{:+.3f}"),
    ("reward/mean", "reward", "{:+.3f}"),
    ("kl/seq", "KL, nats", "{:.2f}"),
    ("policy/entropy", "entropy, nats", "{:.2f}"),
    ("completion/length", "length, tokens", "{:.1f}"),
)


class Watcher(Reporter, Protocol):
    """A reporter with an end."""

    def close(self) -> None:
        """Leave the terminal as it was found."""
        ...


def watcher(display: str, *, title: str, total: int) -> Watcher:
    """The reporter for `display`; `auto` is live on a terminal and plain otherwise."""
    console = Console(stderr=True, highlight=False)
    if display == "live" or (display == "auto" and console.is_terminal and not console.is_dumb_terminal):
        return Dashboard(console, title, total)
    return {"json": JsonLines, "quiet": Quiet}.get(display, Plain)(console, title, total)


def progress(display: str) -> Watcher:
    """The reporter of a command that has no steps; nothing but notes for `quiet`."""
    return (Quiet if display == "quiet" else Bars)(Console(stderr=True, highlight=False), "", 0)


class Quiet:
    """Only notes, and only on stderr."""

    def __init__(self, console: Console, title: str, total: int) -> None:
        self.console, self.title, self.total = console, title, total

    def note(self, text: str) -> None:
        """Print the note."""
        self.console.print(f"note: {visible(text)}", markup=False, soft_wrap=True)

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

    def close(self) -> None:
        """Nothing to leave."""


class Plain(Quiet):
    """One line a step, for pipes and logs."""

    @contextmanager
    def phase(self, name: str, ticks: int) -> Iterator[Callable[[], None]]:
        """Name the phases that are not part of every step."""
        if name not in ("rollout", "reward", "trainer", "reference", "update", "checkpoint"):
            self._line(f"{name} ...")
        yield lambda: None

    def step(
        self, step: int, metrics: Mapping[str, float], timings: Mapping[str, float], sample: tuple[str, str]
    ) -> None:
        """Print the step, and the evaluation that came with it."""
        self._line(f"step {step}/{self.total}  {_figures(metrics, '')}  {timings['time/step_s']:.1f} s")
        if "eval/objective" in metrics:
            self.evaluated(step, metrics)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Print the held-out figures."""
        self._line(f"step {step}/{self.total}  held-out: {_figures(metrics, 'eval/')}")

    def optimum(self, step: int, found: Optimum) -> None:
        """Print how far the optimum is."""
        self._line(f"step {step}/{self.total}  held-out, {towards(found)}")

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)


class Bars(Plain):
    """A bar for each phase on a terminal, its name elsewhere."""

    @contextmanager
    def phase(self, name: str, ticks: int) -> Iterator[Callable[[], None]]:
        """Show how far the phase is, if it has parts."""
        if not ticks or not self.console.is_terminal:
            self._line(f"{name} ...")
            yield lambda: None
            return
        with Progress(console=self.console, transient=True) as bars:
            bar = bars.add_task(name, total=ticks)
            yield lambda: bars.advance(bar)


class JsonLines(Quiet):
    """The metrics lines, as they are in metrics.jsonl, on stdout."""

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Print the evaluation as one JSON object."""
        self._print(step, metrics)

    def step(
        self, step: int, metrics: Mapping[str, float], timings: Mapping[str, float], sample: tuple[str, str]
    ) -> None:
        """Print the step as one JSON object."""
        self._print(step, metrics)

    def _print(self, step: int, metrics: Mapping[str, float]) -> None:
        sys.stdout.write(json.dumps(finite({"step": step, **metrics})) + "\n")
        sys.stdout.flush()


class Dashboard(Quiet):
    """A live picture of the run, redrawn in place."""

    def __init__(self, console: Console, title: str, total: int) -> None:
        super().__init__(console, title, total)
        self._curves: dict[str, list[float]] = {name: [] for name, *_ in CURVES}
        self._phase, self._done, self._ticks = "", 0, 0
        self._step, self._first, self._began = 0, 0, time.monotonic()
        self._speed, self._sample = "", ("", "")
        self._held_out, self._towards = "", ""
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=4, transient=True)

    @contextmanager
    def phase(self, name: str, ticks: int) -> Iterator[Callable[[], None]]:
        """Show the phase and how far it is; while a model loads, a download's own progress bar has the terminal."""
        if name.startswith("loading"):
            self.console.print(f"{name} ...", markup=False)
            yield lambda: None
            return
        self._live.start()
        self._phase, self._done, self._ticks = name, 0, ticks
        yield self._tick

    def step(
        self, step: int, metrics: Mapping[str, float], timings: Mapping[str, float], sample: tuple[str, str]
    ) -> None:
        """Add a point to every curve."""
        if not self._step:
            self._first, self._began = step, time.monotonic()
        self._step, self._sample = step, sample
        self._speed = f"{timings['tokens_per_s']:.0f} tokens/s · {timings['time/step_s']:.1f} s"
        for name, curve in self._curves.items():
            curve.append(_metric(metrics, name))
        if "eval/objective" in metrics:
            self.evaluated(step, metrics)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show the held-out figures under the rest."""
        self._held_out = f"held-out after step {step}: {_figures(metrics, 'eval/')}"

    def optimum(self, step: int, found: Optimum) -> None:
        """Show how far the optimum is, below the held-out figures."""
        self._towards = towards(found)

    def close(self) -> None:
        """Take the picture down; the last table follows."""
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
            parts += [Text(), Text(self._held_out, style="cyan"), Text(self._towards, style="cyan")]
        # Not the full width: the terminal's echo of ^C would wrap, and the picture could not be taken down cleanly.
        width = min(self.console.width - 3, 120)
        return Panel(Group(*parts), title=escape(self.title), border_style="blue", padding=(0, 1), width=width)

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
    """The values as a row of bars, averaged down to `width`, between their own smallest and largest; gaps are blank."""
    if len(values) > width:
        edges = [round(i * len(values) / width) for i in range(width + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    known = [value for value in values if math.isfinite(value)] or [0.0]
    low, span = min(known), (max(known) - min(known)) or 1.0

    def bar(value: float) -> str:
        return SPARKS[min(int((value - low) / span * len(SPARKS)), len(SPARKS) - 1)] if math.isfinite(value) else " "

    return "".join(map(bar, values))


def show_result(result: Result, folder: Path) -> None:
    """The last table, the texts, where everything is, and what to type next; on stdout."""
    console = Console(highlight=False)
    console.print()
    if result.comparison is not None:
        console.print(_comparison(result))
    console.print(_texts(result))
    place = shlex.quote(str(_short(folder)))
    console.print(Text.assemble(("Written to ", "bold"), str(_short(folder))), soft_wrap=True)
    rows = Table.grid(padding=(0, 2))
    for name, what in (
        ("adapter/", "the adapter, a plain PEFT folder"),
        ("metrics.jsonl", "a line a step; curves in tb/, completions in samples.jsonl"),
        ("checkpoints/", "to continue from"),
    ):
        rows.add_row("", name, what)
    console.print(rows, soft_wrap=True)
    console.print("Next", style="bold")
    for command in (
        f'rlhf generate {place} --reference "Describe a long queue in one sentence."',
        f"rlhf train resume={place} steps={2 * result.step}",
        "rlhf train -m beta=0.02,0.1 temperature=0.8,1.2",
    ):
        console.print(f"  {command}", markup=False, soft_wrap=True)


def _comparison(result: Result) -> RenderableType:
    assert result.comparison is not None
    assert result.optimum is not None
    comparison = result.comparison
    table = Table(
        title=f"Held-out, after {result.step} steps: {result.prompts} prompts x {result.samples} samples at T = 1",
        title_justify="left",
        caption=Text(f"±: 95 % interval over prompts; the change is paired by prompt\n{towards(result.optimum)}"),
        caption_justify="left",
    )
    for name in ("", "reference", "policy", "change"):
        table.add_column(name, justify="left" if not name else "right")
    names = {
        "objective": f"J = reward - {result.beta:g}·KL",
        "reward": "reward",
        "kl": "KL, nats",
        "length": "length, tokens",
    }
    for key, label in names.items():
        before, after, change = comparison.before[key], comparison.after[key], comparison.change[key]
        digits = 1 if key == "length" else 3
        levels = (_with_error(before, digits, ""), _with_error(after, digits, ""), _with_error(change, digits, "+"))
        table.add_row(label, *levels, style="bold" if key == "objective" else "")
    old, new = comparison.distinct_2
    table.add_row("distinct word pairs", f"{old:.3f}", f"{new:.3f}", f"{new - old:+.3f}")
    return table


def show_oracle(found: Oracle) -> None:
    """The optimum at each beta, the frontier beside best-of-n, and best-of-n in figures; on stdout."""
    console = Console(highlight=False)
    table = Table(
        title=f"The optimum, from {found.prompts} prompts x {found.samples} completions of the reference "
        f"at T = {found.temperature:g}",
        title_justify="left",
        caption=Text(
            "Reward and KL are the optimum's. An estimate, biased upward as a yardstick:\n"
            "J* is low in expectation, and modes that no sample shows are invisible."
        ),
        caption_justify="left",
    )
    for name in ("beta", "J_ref", "J*", "reward", "KL, nats", "effective samples", "trust it"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in found.points:
        figures = (f"{round(v, 3) + 0.0:.3f}" for v in (point.reference, point.optimum, point.reward, point.kl))
        effective = f"{point.effective:.1f} ({point.least_effective:.1f} or more)"
        own = "bold" if math.isclose(point.beta, found.beta) else ""
        table.add_row(f"{point.beta:g}", *figures, effective, "no" if point.reason else "yes", style=own)
    console.print(table)
    for reason in dict.fromkeys(point.reason for point in found.points if point.reason):
        betas = ", ".join(f"{point.beta:g}" for point in found.points if point.reason == reason)
        console.print(f"beta {betas}: {reason}", markup=False)
    console.print()
    colours = console.color_system is not None and not console.no_color
    for row in rows(_frontier(found), min(console.width, 80) - 1, colours, height=14):
        console.print(Text.assemble(*row), soft_wrap=True)
    console.print(_best_of(found))


def _frontier(found: Oracle) -> Chart:
    """The most reward there is at each KL, beside what the best of n completions gives."""
    seen = [point for point in found.curve if point.covered]
    unseen = seen[-1:] + [point for point in found.curve if not point.covered]

    def series(label: str, points: Sequence[BestOf | CurvePoint], style: Literal["line", "dashed", "points"]) -> Series:
        return Series(label, [point.kl for point in points], [point.reward for point in points], style=style)

    shown = (
        series("the optimum", seen, "line"),
        series("best of n", found.best_of, "points"),
        series("the optimum, from too few samples", unseen, "dashed"),
    )
    return Chart("Reward against KL to the reference", "KL, nats", "reward", tuple(s for s in shown if s.xs))


def _best_of(found: Oracle) -> RenderableType:
    table = Table(title="\nBest of n", title_justify="left")
    for name in ("n", "reward", "KL, nats", f"reward - {found.beta:g}·KL"):
        table.add_column(name, justify="right")
    for one in found.best_of:
        values = (one.reward, one.kl, one.reward - found.beta * one.kl)
        table.add_row(str(one.n), *(f"{round(value, 3) + 0.0:.3f}" for value in values))
    return table


def towards(found: Optimum) -> str:
    """How much of what the optimum gains over the reference a policy has, or why nobody knows."""
    parts = []
    if found.percent is not None:
        shown = (f"{round(value) + 0.0:.0f}" for value in (found.percent, found.low, found.high) if value is not None)
        parts = ["{} % [{}, {}] (estimate, biased upward)".format(*shown)]
    if found.bound is not None and found.bound > 0:
        parts.append(f"at least {found.bound:.0f} %")
    if found.reason:
        parts.append(f"no estimate: {found.reason}")
    return f"optimum: {'; '.join(parts)}"


def _with_error(value: Estimate, digits: int, sign: str) -> str:
    mean = round(value.mean, digits) + 0.0  # never -0.000
    return f"{mean:{sign}.{digits}f} ± {value.half_width:.{digits}f}"


def _texts(result: Result) -> RenderableType:
    table = Table(title="Greedy completions", title_justify="left", show_lines=True, expand=True)
    for name in ("prompt", "reference", "policy"):
        table.add_column(name, ratio=1, style="dim" if name == "prompt" else "")
    for row in result.texts:
        table.add_row(*(Text(flat(text)) for text in (row.prompt, row.reference, row.policy)))
    return table


def _figures(metrics: Mapping[str, float], prefix: str) -> str:
    shown = (
        ("objective", "J", "+.3f"),
        ("reward/mean", "reward", "+.3f"),
        ("kl/seq", "KL", ".2f"),
        ("completion/length", "length", ".1f"),
    )
    return "  ".join(f"{label} {round(_metric(metrics, prefix + name), 3) + 0.0:{form}}" for name, label, form in shown)


def _metric(metrics: Mapping[str, float], name: str) -> float:
    """The metric; for a KL that was not measured exactly at this step its sampled estimate, for others a gap."""
    return metrics.get(name, metrics.get("kl/seq_k1", math.nan) if name == "kl/seq" else math.nan)


def flat(text: str) -> str:
    """One line, with control characters made visible."""
    return visible(" ".join(text.split()))


def _short(folder: Path) -> Path:
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
