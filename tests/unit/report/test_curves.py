"""report.curves and report.series: which charts there are, what is averaged, and what is left out; by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rlhf_cli.charts.pictures import Bars, Chart
from rlhf_cli.report.curves import PLOTS, Plot, overlay, pictures, timing
from rlhf_cli.report.series import MOST, MOST_HELD_OUT, number, points, thin

Row = dict[str, Any]
EVALUATED = {"eval/reward/mean": 0.5, "eval/reward/se": 0.1}


def titles(rows: list[Row]) -> list[str]:
    return [chart.title for chart in pictures(rows, 8)]


def test_only_what_was_measured_is_drawn() -> None:
    rows = [{"step": 1, "reward/mean": 0.5, "kl/seq": None}, {"step": 2, "reward/mean": 0.7, "kl/seq": None}]
    assert titles(rows) == ["Reward"]
    assert titles([]) == []


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.key)
def test_every_metric_has_its_chart(plot: Plot) -> None:
    assert titles([{"step": step, plot.key: 0.1 * step} for step in (1, 2)]) == [plot.title]


def test_a_setting_is_drawn_where_it_changes() -> None:
    assert titles([{"step": step, "beta": 0.1, "temperature": 1.0 + step} for step in (1, 2)]) == ["Temperature"]


def test_a_band_is_one_standard_error_and_what_was_not_measured_is_joined() -> None:
    rows: list[Row] = [
        {"step": 1, "kl/seq": 1.0, "kl/seq_se": 0.25},
        {"step": 2},
        {"step": 3, "kl/seq": 2.0, "kl/seq_se": None},
        {"step": 4, "kl/seq": None, "kl/seq_se": 0.5},
    ]
    (chart,) = pictures(rows, 8)
    (series,) = chart.series
    assert (series.label, series.style) == ("", "line")
    assert list(series.xs) == [1, 3, 4]
    assert [series.ys[0], series.ys[1]] == [1, 2]
    assert math.isnan(series.ys[2])
    assert series.low is not None
    assert series.high is not None
    assert (series.low[0], series.high[0]) == (0.75, 1.25)
    assert math.isnan(series.high[1])


def test_a_kl_of_roundings_size_is_drawn_as_none() -> None:
    """The axis had ticks of 1e-11, as if the policy had moved."""
    rows = [{"step": step, "kl/seq": kl, "kl/seq_se": 2e-9} for step, kl in enumerate((-3e-11, 4e-8, 0.0012345678))]
    (chart,) = pictures(rows, 8)
    (series,) = chart.series
    assert [str(value) for value in series.ys] == ["0.0", "0.0", "0.001235"]  # not -0.0
    assert series.low == series.high == series.ys
    (chart,) = pictures([{"step": 0, "eval/kl/seq": -2e-8, "eval/kl/seq_se": 1e-8}], 3)
    assert (chart.series[0].ys, chart.series[0].low) == ([0.0], [0.0])


def test_held_out_points_have_95_percent_intervals() -> None:
    rows = [{"step": 0, **EVALUATED}, {"step": 1, "reward/mean": 0.25}, {"step": 2, "reward/mean": 0.5, **EVALUATED}]
    (chart,) = pictures(rows, 3)
    training, held_out = chart.series
    assert (training.label, held_out.label, held_out.style) == ("training", "held-out", "points")
    assert list(held_out.xs) == [0, 2]
    assert held_out.high is not None
    # t at 97.5 % with 2 degrees of freedom is 4.3027
    assert held_out.high[1] == pytest.approx(0.5 + 0.43027, abs=1e-5)
    (reward,) = [plot for plot in PLOTS if plot.title == "Reward"]
    single = points("", rows, reward.held_out, reward.held_out_error, 1)
    assert single.high is not None
    assert math.isnan(single.high[0])


def test_a_long_run_is_averaged() -> None:
    # 3 x MOST - 1 steps: three a point, and two in the last
    steps = [float(step) for step in range(1, 3 * MOST)]
    xs, ys = thin([steps, [step if step % 3 else math.nan for step in steps]])
    assert len(xs) == MOST
    assert xs[:2] == [2, 5]
    assert ys[:2] == [1.5, 4.5]  # of 1, 2 and of 4, 5: what is no number has no say
    assert xs[-1] == 3 * MOST - 1.5
    assert math.isnan(thin([[1.0] * 2 * MOST, [math.nan] * 2 * MOST])[1][0])
    assert thin([steps[:MOST]]) == [steps[:MOST]]


def test_many_evaluations_are_averaged_but_for_the_reference() -> None:
    # 2 x MOST_HELD_OUT of them behind the first: two a point
    rows = [{"step": step, "eval/reward/mean": 1.0 * step} for step in range(2 * MOST_HELD_OUT + 1)]
    (chart,) = pictures(rows, 8)
    assert len(chart.series[0].xs) == MOST_HELD_OUT + 1
    assert list(chart.series[0].xs)[:3] == [0, 1.5, 3.5]
    assert list(chart.series[0].ys)[:3] == [0, 1.5, 3.5]


@pytest.mark.parametrize("value", [None, "1", True, math.inf, 10**400, [1], {}, 1e16])
def test_what_cannot_be_drawn(value: Any) -> None:
    assert math.isnan(number(value))


def test_where_the_time_went() -> None:
    rows = [
        {"step": 0, "time/rollout_s": 0.0, "time/evaluation_s": 60.0, "time/step_s": 60.0, "tokens_per_s": 0.0},
        {"step": 1, "time/rollout_s": 3.0, "time/update_s": 1.0, "time/reward_s": 0.0, "tokens_per_s": 9.0},
        {"step": 2, "time/rollout_s": 5.0, "time/update_s": 0.5, "time/trainer_s": 0.001, "tokens_per_s": 11.0},
    ]
    phases, total, speed = timing(rows)
    assert isinstance(phases, Chart)
    assert isinstance(total, Bars)
    assert isinstance(speed, Chart)
    # an evaluation is no phase of every step, the trainer took less than a hundredth
    assert [(one.label, list(one.xs), list(one.ys)) for one in phases.series] == [
        ("rollout", [1, 2], [3, 5]),
        ("update", [1, 2], [1, 0.5]),
    ]
    assert total.title == "Where 69.5 seconds went"
    assert list(zip(total.categories, total.series[0].values, strict=True)) == [
        ("evaluation", 60),
        ("rollout", 8),
        ("update", 1.5),
        ("trainer", 0.001),
    ]
    assert list(speed.series[0].ys) == [9, 11]
    assert timing([]) == []


def test_a_run_keeps_its_colour() -> None:
    """The colour is by place: a run without evaluations holds it, without a name in the legend."""
    silent = [{"step": 1, "reward/mean": 0.1}]
    loud = [{"step": 1, "reward/mean": 0.2, **EVALUATED}]
    held_out, training = overlay([("a", silent, 8), ("b", loud, 8)])
    assert (held_out.title, training.title) == ("Reward, held-out", "Reward, training")
    assert [one.label for one in held_out.series] == ["", "b"]
    assert [one.label for one in training.series] == ["a", "b"]


def test_where_colours_begin_again_lines_are_dashed() -> None:
    (chart,) = overlay([(str(n), [{"step": 1, "reward/mean": 0.1}], 8) for n in range(8)])
    assert [one.style for one in chart.series] == ["line"] * 7 + ["dashed"]
