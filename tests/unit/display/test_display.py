"""What a person sees: lines, dashboard, the last table; and that no completion can drive the terminal."""

from __future__ import annotations

import json
import math
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rlhf_cli.display import watchers
from rlhf_cli.display.oracle import show_oracle
from rlhf_cli.display.tables import show_result
from rlhf_cli.display.watchers import (
    Bars,
    Dashboard,
    JsonLines,
    Plain,
    Quiet,
    Watcher,
    progress,
    sparkline,
    watcher,
)
from rlhf_cli.evaluation.evaluation import Comparison
from rlhf_cli.evaluation.intervals import Estimate
from rlhf_cli.evaluation.optimum import FrontierPoint, Optimum, progress_to_optimum, unknown
from rlhf_cli.evaluation.oracle import BestOf, CurvePoint, Oracle
from rlhf_cli.runs.result import Result, SideBySide

METRICS = {
    "objective": 0.4321,
    "reward/mean": 0.5,
    "kl/seq": 1.356,
    "policy/entropy": 3.2,
    "completion/length": 11.75,
    "sampler/gap": 1e-6,
}
HELD_OUT = {"eval/objective": -0.25, "eval/reward/mean": -0.125, "eval/kl/seq": 2.5, "eval/completion/length": 12.0}
KNOWN = Optimum(62.6, 54.9, 71.2, "", 0.3, 27.8)
TIMINGS = {"time/step_s": 1.26, "tokens_per_s": 345.6}
HOSTILE = "\x1b[2J\x1b]0;owned\x07 line one\nline two\r\x00\x9b31m \u202ereversed [red]not markup[/red] [/x]"
DANGEROUS = "\x1b\x07\r\x00\x9b\u202e"


def console(width: int = 100, *, terminal: bool = False, kind: str = "xterm") -> Console:
    """A console that writes to memory, whatever terminal the tests run in."""
    environment = {"TERM": kind}
    return Console(
        file=StringIO(), width=width, force_terminal=terminal, record=True, highlight=False, _environ=environment
    )


def written(to: Console) -> str:
    assert isinstance(to.file, StringIO)
    return to.file.getvalue()


def report(watch: Watcher, *, sample: tuple[str, str] = ("a prompt", "a completion")) -> None:
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
        if step == 2:
            watch.optimum(step, KNOWN)
    watch.note("3 of 9 prompts [dropped]")


class TestWatcher:
    """display= chooses the watcher."""

    @pytest.mark.parametrize(
        ("name", "on_terminal", "elsewhere"),
        [
            ("auto", Dashboard, Plain),
            ("live", Dashboard, Dashboard),
            ("plain", Plain, Plain),
            ("json", JsonLines, JsonLines),
            ("quiet", Quiet, Quiet),
        ],
    )
    def test_the_kind(self, monkeypatch: pytest.MonkeyPatch, name: str, on_terminal: type, elsewhere: type) -> None:
        for terminal, expected in ((True, on_terminal), (False, elsewhere)):
            monkeypatch.setattr(watchers, "StoppingConsole", lambda terminal=terminal, **_: console(terminal=terminal))
            assert type(watcher(name, title="t", total=3)) is expected

    def test_a_dumb_terminal_gets_plain_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watchers, "StoppingConsole", lambda **_: console(terminal=True, kind="dumb"))
        assert type(watcher("auto", title="t", total=3)) is Plain

    @pytest.mark.parametrize("name", ["plain", "quiet", "auto"])
    def test_messages_go_to_stderr(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        watch = watcher(name, title="t", total=3)
        report(watch)
        watch.close()
        out, err = capsys.readouterr()
        assert out == ""
        assert "note: 3 of 9 prompts [dropped]\n" in err


def test_plain_lines_are_exactly_these() -> None:
    to = console(width=20)  # narrow: a log line is never wrapped
    report(Plain(to, "title", 40))
    assert written(to) == (
        "loading the model ...\n"
        "step 1/40  J +0.432  reward +0.500  KL 1.36  length 11.8  1.3 s\n"
        "evaluation ...\n"
        "step 2/40  J +0.432  reward +0.500  KL 1.36  length 11.8  1.3 s\n"
        "step 2/40  held-out: J -0.250  reward -0.125  KL 2.50  length 12.0\n"
        "step 2/40  held-out, optimum: 63 % [55, 71] (estimate, biased upward); at least 28 %\n"
        "note: 3 of 9 prompts [dropped]\n"
    )


def test_quiet_prints_notes_and_nothing_else() -> None:
    to = console()
    watch = Quiet(to, "title", 40)
    report(watch)
    watch.close()
    assert written(to) == "note: 3 of 9 prompts [dropped]\n"


def test_json_lines_are_the_metrics_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    watch = JsonLines(console(), "title", 40)
    report(watch)
    watch.step(3, {"objective": math.nan, "kl/seq": math.inf}, TIMINGS, ("p", "c"))
    lines = [
        json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in capsys.readouterr().out.splitlines()
    ]
    assert lines == [
        {"step": 1, **METRICS},
        {"step": 2, **METRICS, **HELD_OUT},
        {"step": 3, "objective": None, "kl/seq": None},
    ]


class TestDashboard:
    """The live picture."""

    @staticmethod
    def picture(width: int, **kwargs: Any) -> str:
        watch = Dashboard(console(width, terminal=True), "rloo · tiny [x] · run", 40)
        report(watch, **kwargs)
        watch.close()
        to = console(width, terminal=True)
        to.print(watch._picture())
        return to.export_text()

    @pytest.mark.parametrize("width", [60, 80, 140, 250])
    def test_it_fits_and_says_what_matters(self, width: int) -> None:
        text = self.picture(width)
        assert max(map(len, text.splitlines())) <= width
        for part in ("rloo · tiny [x] · run", "step 2/40", "evaluation", "J = reward - β·KL", "+0.432", "1.36", "3.20"):
            assert part in text

    def test_at_the_usual_width_nothing_is_cut_off(self) -> None:
        text = self.picture(80)
        for part in (
            "346 tokens/s",
            "a prompt",
            "a completion",
            "held-out after step 2: J -0.250  reward -0.125  KL 2.50  length 12.0",
            "optimum: 63 % [55, 71] (estimate, biased upward); at least 28 %",
        ):
            assert part in text

    def test_before_the_first_step_it_shows_the_phase(self) -> None:
        to = console(80, terminal=True)
        watch = Dashboard(to, "title", 40)
        with watch.phase("rollout", 8) as tick:
            tick()
            to.print(watch._picture())
        watch.close()
        text = to.export_text()
        assert "step 0/40" in text
        assert "rollout" in text
        assert "reward" not in text

    def test_the_objective_comes_first(self) -> None:
        lines = self.picture(100).splitlines()
        order = [
            next(i for i, line in enumerate(lines) if name in line)
            for name in ("J = reward", "│ reward ", "KL, nats", "entropy", "length, tokens")
        ]
        assert order == sorted(order)

    def test_the_time_left_is_that_of_the_steps_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = iter([0.0, 0.0, 100.0])
        monkeypatch.setattr(watchers.time, "monotonic", lambda: next(clock))
        watch = Dashboard(console(80, terminal=True), "title", 40)
        watch.step(10, METRICS, TIMINGS, ("p", "c"))
        assert watch._remaining() == ""  # nothing to judge by yet
        watch.step(14, METRICS, TIMINGS, ("p", "c"))
        assert watch._remaining() == "10:50 left"  # 100 s for four steps, 26 left: 650 s

    def test_the_terminal_is_left_as_it_was_found(self) -> None:
        to = console(80, terminal=True)
        watch = Dashboard(to, "title", 40)
        report(watch)
        watch.close()
        assert written(to).count("\x1b[?25l") == written(to).count("\x1b[?25h") == 1  # the cursor comes back

    def test_closing_without_having_begun_is_fine(self) -> None:
        Dashboard(console(80, terminal=True), "title", 40).close()


class TestHostileTexts:
    """Escape sequences, line ends and markup in prompts and completions."""

    def test_the_dashboard_shows_them_as_harmless_text(self) -> None:
        to = console(140, terminal=True)
        watch = Dashboard(to, "title", 40)
        report(watch, sample=(HOSTILE, HOSTILE))
        to.print(watch._picture())
        watch.close()
        text = to.export_text()
        assert not set(text) & set(DANGEROUS)
        assert "\x1b]0;owned" not in written(to)
        assert "\x1b[2J" not in written(to)
        assert "line one line two" in text
        assert "[red]not markup[/red] [/x]" in text

    def test_plain_lines_never_show_them(self) -> None:
        to = console()
        report(Plain(to, "title", 40), sample=(HOSTILE, HOSTILE))
        assert "line one" not in written(to)
        assert not set(written(to)) & set(DANGEROUS)

    def test_the_last_table_shows_them_as_harmless_text(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "300")
        show_result(Result(4, 0.05, 2, 2, None, None, (SideBySide(HOSTILE, HOSTILE, HOSTILE),)), tmp_path)
        out = capsys.readouterr().out
        assert not set(out) & set(DANGEROUS)
        assert out.count("line one line two") == 3
        assert out.count("[red]not markup[/red] [/x]") == 3


COMPARISON = Comparison(
    before={
        "objective": Estimate(0.1, 0.02, 8),
        "reward": Estimate(0.1, 0.02, 8),
        "kl": Estimate(0.0, 0.0, 8),
        "length": Estimate(11.0, 1.0, 8),
    },
    after={
        "objective": Estimate(0.45, 0.05, 8),
        "reward": Estimate(0.5, 0.06, 8),
        "kl": Estimate(1.0, 0.25, 8),
        "length": Estimate(12.34, 0.5, 8),
    },
    change={
        "objective": Estimate(0.35, 0.04, 8),
        "reward": Estimate(0.4, 0.05, 8),
        "kl": Estimate(1.0, 0.25, 8),
        "length": Estimate(-1.34, 0.6, 8),
    },
    distinct_2=(0.9, 0.75),
)


class TestShowResult:
    """The last table, on stdout."""

    def test_levels_and_changes(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "120")
        show_result(
            Result(40, 0.05, 8, 4, COMPARISON, KNOWN, (SideBySide("Say something.", "before", "after"),)), tmp_path
        )
        out, err = capsys.readouterr()
        assert err == ""
        rows = [" ".join(line.replace("│", " ").split()) for line in out.splitlines()]
        for wanted in (
            "J = reward - 0.05·KL 0.100 ± 0.020 0.450 ± 0.050 +0.350 ± 0.040",
            "KL, nats 0.000 ± 0.000 1.000 ± 0.250 +1.000 ± 0.250",
            "length, tokens 11.0 ± 1.0 12.3 ± 0.5 -1.3 ± 0.6",
            "distinct word pairs 0.900 0.750 -0.150",
            "optimum: 63 % [55, 71] (estimate, biased upward); at least 28 %",
            "Say something. before after",
            f"rlhf train resume={tmp_path} steps=80",
        ):
            assert any(wanted in row for row in rows), wanted

    def test_a_run_that_was_never_evaluated(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        show_result(Result(4, 0.05, 0, 2, None, None, (SideBySide("p", "r", "q"),)), tmp_path)
        out = capsys.readouterr().out
        assert "Held-out" not in out
        assert "Greedy completions" in out

    def test_a_folder_below_the_working_directory_is_named_from_there(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        show_result(Result(4, 0.05, 0, 2, None, None, ()), tmp_path / "outputs" / "run")
        out = capsys.readouterr().out
        assert "Written to outputs/run\n" in out
        assert str(tmp_path) not in out


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (KNOWN, "optimum: 63 % [55, 71] (estimate, biased upward); at least 28 %"),
        (Optimum(-0.3, -12.0, -0.4, "", -0.1, -5.0), "optimum: 0 % [-12, 0] (estimate, biased upward)"),
        (Optimum(40.0, 30.0, 50.0, "", 0.1, None), "optimum: 40 % [30, 50] (estimate, biased upward)"),
        (unknown("beta is 0", 0.3, 27.8), "optimum: at least 28 %; no estimate: beta is 0"),
        (unknown("beta is 0", -0.3, -27.8), "optimum: no estimate: beta is 0"),
        (unknown("beta is 0"), "optimum: no estimate: beta is 0"),
    ],
)
def test_what_is_said_of_the_optimum(found: Optimum, said: str) -> None:
    assert progress_to_optimum(found) == said


class TestProgress:
    """The reporter of a command without steps."""

    @pytest.mark.parametrize(("name", "kind"), [("auto", Bars), ("plain", Bars), ("json", Bars), ("quiet", Quiet)])
    def test_the_kind(self, name: str, kind: type) -> None:
        assert type(progress(name)) is kind

    def test_elsewhere_a_phase_is_its_name(self) -> None:
        to = console()
        with Bars(to, "", 0).phase("the reference writes", 9) as tick:
            tick()
        assert written(to) == "the reference writes ...\n"

    def test_on_a_terminal_it_is_a_bar_that_leaves_nothing(self) -> None:
        to = console(terminal=True)
        watch = Bars(to, "", 0)
        with watch.phase("loading the model", 0) as tick:
            tick()
        with watch.phase("the reference writes", 4) as tick:
            for _ in range(4):
                tick()
        assert "loading the model ..." in written(to)
        assert "100%" in written(to)
        assert written(to).count("\x1b[?25l") == written(to).count("\x1b[?25h") == 1


def test_the_oracle_is_shown_with_its_doubts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    reason = "too few samples: doubling them moved J* by 7.5 % of the gap, more than 2 %"
    points = tuple(
        FrontierPoint(beta, 0.1, 0.31, 0.4, -1e-17, 12.34, 1.26, reason if beta < 0.1 else "")
        for beta in (0.02, 0.05, 0.1)
    )
    curve = (CurvePoint(-1e-18, 0.1, True), CurvePoint(1.0, 0.3, True), CurvePoint(2.0, 0.4, False))
    best_of = (BestOf(1, 0.1, 0.0), BestOf(8, 0.3, 1.2))
    show_oracle(Oracle(8, 64, 1.3, 0.05, points, best_of, curve))
    out, err = capsys.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80
    rows = [" ".join(line.replace("│", " ").split()) for line in out.splitlines()]
    assert rows[0] == "The optimum, from 8 prompts x 64 completions of the reference at T = 1.3"
    assert "0.05 0.100 0.310 0.400 0.000 12.3 (1.3 or more) no" in rows
    assert "0.1 0.100 0.310 0.400 0.000 12.3 (1.3 or more) yes" in rows
    assert f"beta 0.02, 0.05: {reason}" in " ".join(rows)
    assert "8 0.300 1.200 0.240" in rows
    drawn = out[out.index("Reward against") : out.index("** the optimum")]
    canvas = "".join(line.partition("│")[2] + line.partition("┤")[2] for line in drawn.splitlines())
    assert set(canvas) == {"*", "o", "+", " "}


class TestSparkline:
    """A row of bars."""

    def test_the_lowest_and_the_highest_bar(self) -> None:
        assert sparkline([0.0, 1.0]) == "▁█"
        assert sparkline([5.0, -5.0, 0.0]) == "█▁▅"

    def test_every_eighth_has_its_bar(self) -> None:
        assert sparkline([i / 8 for i in range(9)]) == "▁▂▃▄▅▆▇██"

    @pytest.mark.parametrize("values", [[3.0], [0.0, 0.0, 0.0], [-1e30] * 5])
    def test_without_a_difference_it_is_flat(self, values: list[float]) -> None:
        assert sparkline(values) == "▁" * len(values)

    def test_more_values_than_room_are_averaged(self) -> None:
        assert sparkline([0.0, 2.0, 4.0, 6.0], width=2) == "▁█"  # means 1 and 5
        assert sparkline([0.0, 10.0, 5.0, 5.0], width=2) == "▁▁"  # means 5 and 5

    @pytest.mark.parametrize("count", [39, 40, 41, 79, 1000])
    def test_it_is_never_wider_than_its_room(self, count: int) -> None:
        assert len(sparkline([float(i) for i in range(count)])) == min(count, 40)


def test_a_curve_with_gaps_is_drawn_with_gaps() -> None:
    assert sparkline([0.0, math.nan, 1.0, math.inf]) == "▁ █ "
    assert sparkline([]) == ""


def test_a_folder_with_brackets_and_spaces_is_shown_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    show_result(Result(2, 0.1, 1, 1, None, None, ()), tmp_path / "a [bold]run[/x]")
    printed = capsys.readouterr().out
    assert "Written to a [bold]run[/x]" in printed
    assert "rlhf train resume='a [bold]run[/x]' steps=4" in printed
