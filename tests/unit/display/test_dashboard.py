"""display.dashboard."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rlhf_cli.display.dashboard import CURVES, PAIRS, Dashboard, sparkline
from rlhf_cli.display.words import figures, metric
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


class TestDashboard:
    """The live picture."""

    @staticmethod
    def picture(width: int, **kwargs: Any) -> str:
        watch = Dashboard(console(width, terminal=True), "rloo · tiny [x] · run", 40)
        report_run(watch, **kwargs)
        to = console(width, terminal=True)
        to.print(watch._draw())
        watch.close()
        return to.export_text()

    @pytest.mark.parametrize("width", [60, 80, 140, 250])
    def test_it_fits_and_says_what_matters(self, width: int) -> None:
        text = self.picture(width)
        assert max(map(len, text.splitlines())) <= width
        for part in ("rloo · tiny [x] · run", "step 2/40", "evaluation", "J = reward - β·KL", "+0.432", "1.36", "3.20"):
            assert part in text

    def test_supervised_training_has_curves_of_its_own(self) -> None:
        watch = Dashboard(console(80, terminal=True), "dpo · tiny · run", 40, curves=PAIRS)
        watch.step(1, {"loss": 0.6931, "accuracy": 0.625, "margin": 0.25, "heldout/loss": 0.5}, TIMINGS, ("p", "c"))
        to = console(80, terminal=True)
        to.print(watch._draw())
        watch.close()
        text = to.export_text()
        for part in ("0.6931", "62.5%", "chosen - rejected", "+0.250", "held-out after step 1: loss 0.5000"):
            assert part in text
        assert "J = reward" not in text

    def test_at_the_usual_width_nothing_is_cut_off(self) -> None:
        text = self.picture(80)
        for part in (
            "346 tokens/s",
            "a prompt",
            "a completion",
            "held-out after step 2: J -0.250  reward -0.125  KL 2.50  length 12.0",
        ):
            assert part in text

    def test_before_the_first_step_it_shows_the_phase(self) -> None:
        to = console(80, terminal=True)
        watch = Dashboard(to, "title", 40)
        with watch.phase("rollout", 8) as tick:
            tick()
            to.print(watch._draw())
        watch.close()
        text = to.export_text()
        assert "step 0/40" in text
        assert "rollout" in text
        assert "1/8" in text  # no step has told how fast it is
        assert "reward" not in text

    def test_a_step_whose_tokens_were_not_counted_has_no_speed(self) -> None:
        to = console(80, terminal=True)
        watch = Dashboard(to, "title", 40)
        watch.step(1, {"skipped": 1.0}, {"time/step_s": 1.26}, ("p", "c"))
        to.print(watch._draw())
        watch.close()
        text = to.export_text()
        assert "1.3 s" in text
        assert "tokens/s" not in text

    def test_the_objective_comes_first(self) -> None:
        lines = self.picture(100).splitlines()
        order = [
            next(i for i, line in enumerate(lines) if name in line)
            for name in ("J = reward", "│ reward ", "KL, nats", "entropy", "length, tokens")
        ]
        assert order == sorted(order)

    def test_the_time_left_is_that_of_the_steps_left(self) -> None:
        watch = Dashboard(console(80, terminal=True), "title", 40)
        assert watch._estimate_rest() == ""  # nothing to judge by yet
        watch.step(10, METRICS, TIMINGS | {"time/step_s": 20.0}, ("p", "c"))
        watch.step(11, METRICS, TIMINGS | {"time/step_s": 30.0}, ("p", "c"))
        assert watch._estimate_rest() == "12:05 left"  # 29 steps of 25 s: 725 s
        watch.total = 491
        assert watch._estimate_rest() == "3:20:00 left"  # 480 steps of 25 s
        watch.total = 11
        assert watch._estimate_rest() == ""

    def test_it_stays_when_it_ends_and_the_cursor_comes_back(self) -> None:
        to = console(80, terminal=True)
        watch = Dashboard(to, "title", 40)
        report_run(watch)
        watch.close()
        assert printed(to).count("\x1b[?25l") == printed(to).count("\x1b[?25h") == 1
        last = printed(to)[printed(to).rindex("title") :]
        assert "step 2/40" in last
        assert "\x1b[2K" not in last  # nothing erases it

    def test_a_resumed_run_has_its_history(self) -> None:
        rows = [{"step": 0, **HELD_OUT}, *({"step": step, **METRICS, "objective": step / 10} for step in range(1, 5))]
        to = console(80, terminal=True)
        watch = Dashboard(to, "title", 8, rows)
        to.print(watch._draw())
        text = to.export_text()
        assert "step 4/8" in text
        assert "held-out after step 0: J -0.250" in text
        assert " left " not in text  # the time of another process says nothing about this one
        watch.step(5, METRICS | {"objective": 0.0}, TIMINGS, ("p", "c"))
        assert watch._curves["objective"] == [0.1, 0.2, 0.3, 0.4, 0.0]

    @pytest.mark.parametrize("width", [80, 140])
    def test_the_curves_use_the_width_and_have_a_scale(self, width: int) -> None:
        to = console(width, terminal=True)
        watch = Dashboard(to, "title", 8)
        for step in range(1, 9):
            watch.step(step, METRICS | {"objective": step / 10}, TIMINGS, ("p", "c"))
        to.print(watch._draw())
        (line,) = [line for line in to.export_text().splitlines() if "J = reward" in line]
        label, now, low, bars, high = line.strip("│ ").replace("reward - ", "reward-").rsplit(maxsplit=4)
        assert (label, now, low, high) == ("J = reward-β·KL", "+0.800", "+0.100", "+0.800")
        assert bars == "".join(bar * (len(bars) // 8) for bar in "▁▂▃▄▅▆▇█")
        assert width - 60 <= len(bars) <= width - 40

    def test_what_was_not_measured_is_a_dash(self) -> None:
        to = console(80, terminal=True)
        watch = Dashboard(to, "title", 8)
        watch.step(1, {"skipped": 1.0, "reward/mean": 1e30}, TIMINGS, ("", ""))
        to.print(watch._draw())
        lines = to.export_text().splitlines()
        assert ["│", "KL,", "nats", "-", "-", "-", "│"] in [line.split() for line in lines]
        assert any("reward" in line and line.count("1e+30") == 3 for line in lines)

    @pytest.mark.parametrize(("count", "shown"), [(64, True), (0, False)])
    def test_pairs_wait_until_somebody_has_voted(self, count: int, shown: bool) -> None:
        watch = Dashboard(console(80, terminal=True), "title", 40)
        watch.pairs_wait(9, "rlhf label out")
        watch.pairs_wait(count, "rlhf label out")
        to = console(80, terminal=True)
        to.print(watch._draw())
        text = to.export_text()
        assert ("64 pairs wait for a vote: rlhf label out" in text) == shown
        assert "9 pairs" not in text

    def test_closing_without_having_begun_is_fine(self) -> None:
        Dashboard(console(80, terminal=True), "title", 40).close()

    def test_hostile_texts_are_shown_as_harmless_ones(self) -> None:
        to = console(140, terminal=True)
        watch = Dashboard(to, "title", 40)
        report_run(watch, sample=(HOSTILE, HOSTILE))
        to.print(watch._draw())
        watch.close()
        text = to.export_text()
        assert not set(text) & set(DANGEROUS)
        assert "\x1b]0;owned" not in printed(to)
        assert "\x1b[2J" not in printed(to)
        assert "line one line two" in text
        assert "[red]not markup[/red] [/x]" in text


class TestSparkline:
    """A row of bars."""

    def test_the_lowest_and_the_highest_bar(self) -> None:
        assert sparkline([0.0, 1.0]) == "▁█"
        assert sparkline([5.0, -5.0, 0.0]) == "█▁▅"

    def test_every_eighth_has_its_bar(self) -> None:
        assert sparkline([i / 8 for i in range(9)]) == "▁▂▃▄▅▆▇██"

    @pytest.mark.parametrize(
        "values", [[3.0], [0.0, 0.0, 0.0], [-1e30] * 5, [2.0, 2.000001, 1.999999], [-4e-10, 5e-10, 0.0]]
    )
    def test_without_a_difference_that_is_more_than_rounding_it_is_flat(self, values: list[float]) -> None:
        assert sparkline(values) == "▁" * len(values)

    def test_more_values_than_room_are_averaged(self) -> None:
        assert sparkline([0.0, 2.0, 4.0, 6.0], width=2) == "▂▇"  # means 1 and 5 between 0 and 6
        assert sparkline([0.0, 10.0, 5.0, 5.0], width=2) == "▅▅"  # means 5 and 5
        assert sparkline([0.0, math.nan, math.nan, math.nan, 8.0, 8.0], width=3) == "▁ █"

    def test_bars_are_wider_where_there_is_room(self) -> None:
        assert sparkline([0.0, 1.0], width=6, each=3) == "▁▁▁███"
        assert sparkline([0.0, 1.0], width=5, each=3) == "▁█"

    @pytest.mark.parametrize("count", [39, 40, 41, 79, 1000])
    def test_it_is_never_wider_than_its_room(self, count: int) -> None:
        assert len(sparkline([float(i) for i in range(count)])) == min(count, 40)


@pytest.mark.parametrize(("kl", "shown"), [(3e-8, 0.0), (-4e-7, 0.0), (2e-6, 2e-6), (1.25, 1.25)])
def test_a_kl_that_is_rounding_is_none(kl: float, shown: float) -> None:
    assert math.copysign(1, metric({"kl/seq": kl}, "kl/seq")) == 1
    assert metric({"kl/seq": kl}, "kl/seq") == metric({"kl/seq_k1": kl}, "kl/seq") == shown
    assert metric({"reward/mean": kl}, "reward/mean") == kl


@pytest.mark.parametrize("name", [name for name, *_ in CURVES if name != "completion/length"])
def test_no_figure_is_a_zero_with_a_minus(name: str) -> None:
    form = next(form for known, _, form in CURVES if known == name)
    assert form.format(-1e-4).lstrip("+") == form.format(0.0).lstrip("+")
    assert "-" not in figures({name: -1e-4}, "").partition("length")[0]


def test_a_curve_with_gaps_is_drawn_with_gaps() -> None:
    assert sparkline([0.0, math.nan, 1.0, math.inf]) == "▁ █ "
    assert sparkline([]) == ""
