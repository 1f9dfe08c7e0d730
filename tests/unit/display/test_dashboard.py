"""display.dashboard."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rlhf_cli.display import dashboard
from rlhf_cli.display.dashboard import Dashboard, sparkline
from tests.unit.display.samples import (
    DANGEROUS,
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
        monkeypatch.setattr(dashboard.time, "monotonic", lambda: next(clock))
        watch = Dashboard(console(80, terminal=True), "title", 40)
        watch.step(10, METRICS, TIMINGS, ("p", "c"))
        assert watch._remaining() == ""  # nothing to judge by yet
        watch.step(14, METRICS, TIMINGS, ("p", "c"))
        assert watch._remaining() == "10:50 left"  # 100 s for four steps, 26 left: 650 s

    def test_the_terminal_is_left_as_it_was_found(self) -> None:
        to = console(80, terminal=True)
        watch = Dashboard(to, "title", 40)
        report_run(watch)
        watch.close()
        assert printed(to).count("\x1b[?25l") == printed(to).count("\x1b[?25h") == 1  # the cursor comes back

    def test_closing_without_having_begun_is_fine(self) -> None:
        Dashboard(console(80, terminal=True), "title", 40).close()

    def test_hostile_texts_are_shown_as_harmless_ones(self) -> None:
        to = console(140, terminal=True)
        watch = Dashboard(to, "title", 40)
        report_run(watch, sample=(HOSTILE, HOSTILE))
        to.print(watch._picture())
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
