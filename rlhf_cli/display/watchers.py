"""Choose the reporter that shows a run on stderr: a live dashboard on a terminal, one plain line a step elsewhere."""

from collections.abc import Sequence

from rlhf_cli.display.console import ResultConsole, StoppingConsole
from rlhf_cli.display.dashboard import CURVES, Curve, Dashboard
from rlhf_cli.display.lines import JsonLines, PhaseBars, Plain, Quiet
from rlhf_cli.reporter import Reporter
from rlhf_cli.types import Metrics


def watcher(
    display: str, *, title: str, total: int, past: Sequence[Metrics] = (), curves: Sequence[Curve] = CURVES
) -> Reporter:
    """The reporter for `display`; `auto` is live on a terminal and plain otherwise.

    `past`: the metrics of the steps before, of a run that is resumed; `curves`: those of the dashboard.
    """
    console = StoppingConsole(stderr=True)
    if display == "live" or (display == "auto" and console.is_terminal and not console.is_dumb_terminal):
        return Dashboard(console, title, total, past, curves)
    return {"json": JsonLines, "quiet": Quiet}.get(display, Plain)(console, title, total)


def progress(display: str) -> Reporter:
    """The reporter of a command without steps; `quiet` prints only notes."""
    return (Quiet if display == "quiet" else PhaseBars)(ResultConsole(stderr=True), "", 0)
