"""Metrics, texts and consoles for the tests of what a terminal shows."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from rlhf_cli.display.console import PlainConsole
from rlhf_cli.evaluation.optimum import Optimum
from rlhf_cli.reporter import Reporter

METRICS = {
    "objective": 0.4321,
    "reward/mean": 0.5,
    "kl/seq": 1.356,
    "policy/entropy": 3.2,
    "completion/length": 11.75,
    "sampler/gap": 1e-6,
}
HELD_OUT = {
    "eval/objective": -0.25,
    "eval/reward/mean": -0.125,
    "eval/kl/seq": 2.5,
    "eval/completion/length": 12.0,
    "eval/optimum": 62.6,
}
KNOWN = Optimum(62.6, 54.9, 71.2, "", 0.3, 27.8)
TIMINGS = {"time/step_s": 1.26, "tokens_per_s": 345.6}
HOSTILE = "\x1b[2J\x1b]0;owned\x07 line one\nline two\r\x00\x9b31m \u202ereversed [red]not markup[/red] [/x]"
DANGEROUS = "\x1b\x07\r\x00\x9b\u202e"


def console(width: int = 100, *, terminal: bool = False, kind: str = "xterm") -> Console:
    """A console that writes to memory, whatever terminal the tests run in."""
    environment = {"TERM": kind}
    return PlainConsole(file=StringIO(), width=width, force_terminal=terminal, record=True, _environ=environment)


def printed(to: Console) -> str:
    assert isinstance(to.file, StringIO)
    return to.file.getvalue()


def report_run(watch: Reporter, *, sample: tuple[str, str] = ("a prompt", "a completion")) -> None:
    """Two steps of a run, the second with an evaluation, and a note."""
    with watch.phase("loading the model", 0) as tick:
        tick()
    for step in (1, 2):
        for name in ("rollout", "reward", "reference", "update"):
            with watch.phase(name, 8) as tick:
                tick()
        if step == 2:
            with watch.phase("evaluation", 3) as tick:
                tick()
        watch.step(step, METRICS | (HELD_OUT if step == 2 else {}), TIMINGS, sample)
    watch.note("3 of 9 prompts [dropped]")
