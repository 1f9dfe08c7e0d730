"""Show a sweep while it runs: a live table on a terminal, a line when a trial starts or ends elsewhere."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rlhf_cli.display.console import StoppingConsole
from rlhf_cli.display.printing import print_json
from rlhf_cli.display.words import figures, metric
from rlhf_cli.errors import visible
from rlhf_cli.paths import relative_to_here
from rlhf_cli.plural import plural
from rlhf_cli.sweep.pool import Standing, State

STYLES: Final[dict[State, str]] = {
    "waiting": "dim", "running": "green", "finished": "", "failed": "bold red", "stopped": "yellow",
}  # fmt: skip
FIRST: Final[tuple[State, ...]] = ("running", "failed", "stopped", "finished", "waiting")
"""The order of importance: where not all trials have room, those of the first states are shown."""

Show = Callable[[Sequence[Standing]], None]


@contextmanager
def show_trials(display: str, total: int = 0) -> Iterator[Show]:
    """Yield a function that shows the states of all trials; `auto` is live on a terminal.

    `total` is the number of trials of a search, which begins with none and asks for one after the other.
    """
    console = StoppingConsole(stderr=True)
    lines = {"json": _JsonLines, "quiet": _Failures}.get(display, _Lines)(console, total)
    if display != "live" and (display != "auto" or not console.is_terminal or console.is_dumb_terminal):
        yield lines.show
        return
    failures = _Failures(console, total)
    standings: Sequence[Standing] = ()
    with Live(console=console, get_renderable=lambda: _table(standings, console, total), refresh_per_second=4) as live:

        def show(now: Sequence[Standing]) -> None:
            nonlocal standings
            standings = now
            failures.show(now)

        yield show
        live.refresh()


class _Failures:
    """Print a line when a trial fails or is stopped."""

    def __init__(self, console: Console, total: int) -> None:
        self.console, self._total = console, total
        self._seen: dict[int, State] = {}

    def show(self, standings: Sequence[Standing]) -> None:
        """Print the changes since the last call."""
        for place, standing in enumerate(standings, start=1):
            if standing.state != self._seen.get(place, "waiting"):
                self._seen[place] = standing.state
                number = standing.job.number or place
                total = max(self._total, number, len(standings))
                self.changed(standing, f"trial {number} of {total} ({standing.job.name})")

    def changed(self, standing: Standing, which: str) -> None:
        """Print the new state of a trial."""
        if standing.state in ("failed", "stopped"):
            line = f"{which} {standing.state}: {standing.reason}; its log: {relative_to_here(standing.job.log)}"
            self.console.print(visible(line), style=STYLES[standing.state], soft_wrap=True)


class _Lines(_Failures):
    """Print a line for every change."""

    def changed(self, standing: Standing, which: str) -> None:
        super().changed(standing, which)
        if standing.state == "running":
            self._line(f"{which} ...")
        if standing.state == "finished":
            before = " before" if standing.was_done else ""
            self._line(f"{which} finished{before}: {figures(standing.metrics or {}, '')}")

    def _line(self, text: str) -> None:
        self.console.print(visible(text), soft_wrap=True)


class _JsonLines(_Failures):
    """Print one JSON object on stdout for every trial that ends."""

    def changed(self, standing: Standing, which: str) -> None:
        super().changed(standing, which)
        if standing.state not in ("waiting", "running"):
            about = {"trial": standing.job.name, "state": standing.state, "said": standing.reason or ""}
            print_json({**about, "step": standing.step, **(standing.metrics or {})})


def _table(standings: Sequence[Standing], console: Console, total: int) -> RenderableType:
    """The trials in their order, as many as there is room for, and the count of each state."""
    room = max(console.height - 4, 1)
    chosen = set(sorted(range(len(standings)), key=lambda i: (FIRST.index(standings[i].state), i))[:room])
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, overflow="ellipsis")
    for _ in range(5):
        table.add_column(justify="right", no_wrap=True)
    table.add_row("trial", "state", "step", "J", "reward", "KL", style="bold")
    for number in sorted(chosen):
        table.add_row(*_row(standings[number]))
    count = Counter(standing.state for standing in standings)
    last = max([len(standings), *(standing.job.number or 0 for standing in standings)])
    total = max(total, last)
    count["waiting"] += total - last  # of a search those that are not asked for yet
    before = f"{last - len(standings)} before, " if last > len(standings) else ""
    counts = ", ".join(f"{count[state]} {state}" for state in ("finished", "failed", "stopped", "running", "waiting"))
    return Group(table, Text(f"{plural(total, 'trial')}: {before}{counts}", style="dim"))


def _row(standing: Standing) -> tuple[RenderableType, ...]:
    metrics = standing.metrics or {}
    values = (("objective", "+z.3f"), ("reward/mean", "+z.3f"), ("kl/seq", "z.2f"))
    return (
        visible(standing.job.name),
        Text(standing.state, style=STYLES[standing.state]),
        f"{'-' if standing.step is None else standing.step}/{standing.job.steps}",
        *(f"{metric(metrics, name):{form}}" if metrics else "-" for name, form in values),
    )
