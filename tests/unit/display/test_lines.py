"""display.lines."""

from __future__ import annotations

import json
import math

import pytest

from rlhf_cli.display import lines
from rlhf_cli.display.lines import JsonLines, PhaseBars, Plain, Quiet
from tests.unit.display.samples import (
    DANGEROUS,
    HELD_OUT,
    HOSTILE,
    METRICS,
    TIMINGS,
    console,
    printed,
    report_run,
)


def test_plain_lines_are_exactly_these() -> None:
    to = console(width=20)  # narrow: a log line is never wrapped
    report_run(Plain(to, "title", 40))
    assert printed(to) == (
        "loading the model ...\n"
        "step 1/40  J +0.432  reward +0.500  KL 1.36  length 11.8  1.3 s\n"
        "evaluation ...\n"
        "step 2/40  J +0.432  reward +0.500  KL 1.36  length 11.8  1.3 s\n"
        "step 2/40  held-out: J -0.250  reward -0.125  KL 2.50  length 12.0  optimum 63 %\n"
        "note: 3 of 9 prompts [dropped]\n"
    )


def test_lines_of_supervised_training_have_the_loss() -> None:
    to = console(width=20)
    watch = Plain(to, "title", 40)
    watch.evaluated(0, {"heldout/loss": 1.5, "heldout/perplexity": 4.4817, "heldout/accuracy": 0.25})
    watch.step(1, {"skipped": 0.0, "loss": 0.6931, "accuracy": 0.625, "margin": 0.1}, TIMINGS, ("p", "c"))
    watch.step(2, {"skipped": 1.0}, TIMINGS, ("p", "c"))
    watch.step(3, {"loss": 0.5, "heldout/loss": 0.25, "heldout/margin": -1.0}, TIMINGS, ("p", "c"))
    assert printed(to) == (
        "step 0/40  held-out: loss 1.5000  perplexity 4.48  accuracy 25.0%\n"
        "step 1/40  loss 0.6931  accuracy 62.5%  margin +0.100  1.3 s\n"
        "step 2/40  nothing learned  1.3 s\n"
        "step 3/40  loss 0.5000  1.3 s\n"
        "step 3/40  held-out: loss 0.2500  margin -1.000\n"
    )


def test_pairs_that_wait_are_a_line_where_there_are_any() -> None:
    to = console(width=20)
    watch = Plain(to, "title", 40)
    for count in (0, 1, 64):
        watch.pairs_wait(count, "rlhf label outputs/a")
    assert printed(to) == (
        "1 pair waits for a vote: rlhf label outputs/a\n64 pairs wait for a vote: rlhf label outputs/a\n"
    )


def test_a_long_phase_says_every_minute_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 25 s: 75 s after the start, then 75 s after that; a phase that ends within a minute is silent."""
    to, now = console(width=20), [0.0]
    monkeypatch.setattr(lines, "monotonic", lambda: now[0])
    watch = Plain(to, "title", 40)
    for ticks in (2, 7):
        with watch.phase("update", ticks) as tick:
            for _ in range(ticks):
                now[0] += 25.0
                tick()
    assert printed(to) == "update: 3 of 7 parts done\nupdate: 6 of 7 parts done\n"


def test_quiet_prints_notes_and_nothing_else() -> None:
    to = console()
    watch = Quiet(to, "title", 40)
    report_run(watch)
    watch.close()
    assert printed(to) == "note: 3 of 9 prompts [dropped]\n"


def test_json_lines_are_the_metrics_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    watch = JsonLines(console(), "title", 40)
    report_run(watch)
    watch.step(3, {"objective": math.nan, "kl/seq": math.inf}, TIMINGS, ("p", "c"))
    rows = [
        json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in capsys.readouterr().out.splitlines()
    ]
    assert rows == [
        {"step": 1, **METRICS},
        {"step": 2, **METRICS, **HELD_OUT},
        {"step": 3, "objective": None, "kl/seq": None},
    ]


def test_plain_lines_never_show_a_completion() -> None:
    to = console()
    report_run(Plain(to, "title", 40), sample=(HOSTILE, HOSTILE))
    assert "line one" not in printed(to)
    assert not set(printed(to)) & set(DANGEROUS)


def test_elsewhere_a_phase_is_its_name() -> None:
    to = console()
    with PhaseBars(to, "", 0).phase("the reference writes", 9) as tick:
        tick()
    assert printed(to) == "the reference writes ...\n"


def test_on_a_terminal_it_is_a_bar_that_leaves_nothing() -> None:
    to = console(terminal=True)
    watch = PhaseBars(to, "", 0)
    with watch.phase("loading the model", 0) as tick:
        tick()
    with watch.phase("the reference writes", 4) as tick:
        for _ in range(4):
            tick()
    assert "loading the model ..." in printed(to)
    assert "100%" in printed(to)
    assert printed(to).count("\x1b[?25l") == printed(to).count("\x1b[?25h") == 1
