"""What the rules read of a run."""

from __future__ import annotations

import math
import random
from collections import deque
from statistics import linear_regression

import pytest

from rlhf_cli.health.course import Change, Course, Trend
from tests.unit.health.samples import evaluation, rows


def test_the_slope_of_a_line_in_standard_errors() -> None:
    """y = 1, 2, 2, 3 at x = 1, 2, 3, 4: slope 0.6, residuals -0.1, 0.3, -0.3, 0.1, so s^2 = 0.1, error sqrt(0.02)."""
    trend = Trend()
    for x, y in enumerate((1, 2, 2, 3), start=1):
        trend = trend.add(x, y)
    assert trend.z == pytest.approx(0.6 / math.sqrt(0.02))


def test_the_slope_of_many_values_is_that_of_the_library() -> None:
    draw, trend = random.Random(1), Trend()
    values = [(x, 1e6 + 0.01 * x + draw.gauss(0, 1)) for x in range(500)]
    for x, y in values:
        trend = trend.add(x, y)
    assert trend.xy / trend.xx == pytest.approx(linear_regression(*zip(*values, strict=True)).slope, rel=1e-6)


@pytest.mark.parametrize(("values", "z"), [((), 0.0), ((1, 2), 0.0), ((1, 1, 1), 0.0), ((1, 2, 3), math.inf)])
def test_slopes_of_few_values(values: tuple[float, ...], z: float) -> None:
    trend = Trend()
    for x, y in enumerate(values):
        trend = trend.add(x, y)
    assert trend.z == z


def test_a_change_and_its_error() -> None:
    """0.06 at each step: sqrt(0.06^2 / 5 + 0.06^2 / 10)."""
    course = Course()
    for row in rows():
        course.add(row)
    change = course.change("reward/mean")
    assert change is not None
    assert change.error == pytest.approx(0.06 * math.sqrt(0.3))
    assert change.gain == pytest.approx(change.after - change.before)
    assert Change(1.0, 1.0, 0.0).z == 0
    assert Change(2.0, 1.0, 0.0).z == -math.inf


def test_the_best_evaluation_is_one_before_the_last() -> None:
    course = Course()
    for step, reward in ((0, 0.1), (10, 0.5), (20, 0.3), (30, 0.4)):
        course.evaluate(evaluation(step, reward))
    assert course.first is not None
    assert course.best is not None
    assert course.last is not None
    assert (course.first.step, course.best.step, course.last.step) == (0, 10, 30)


def test_of_two_best_evaluations_the_earlier_counts() -> None:
    course = Course()
    for step, reward in ((0, 0.1), (10, 0.5), (20, 0.5), (30, 0.4)):
        course.evaluate(evaluation(step, reward))
    assert course.best is not None
    assert course.best.step == 10


def test_without_an_evaluation_at_the_start_the_first_one_is_the_best() -> None:
    course = Course()
    for step in (10, 20):
        course.evaluate(evaluation(step, 0.1))
    assert course.first is None
    assert course.best is not None
    assert course.best.step == 10


@pytest.mark.parametrize("config", [{}, {"prompts_per_step": 8}, {"samples_per_prompt": 4}], ids=str)
def test_tokens_are_none_where_the_settings_do_not_tell_how_many_there_were(config: dict[str, int]) -> None:
    course = Course(config)
    course.add({"step": 1, "completion/length": 10.0})
    assert course.tokens == 0


def test_a_step_without_a_length_has_no_tokens() -> None:
    course = Course({"prompts_per_step": 8, "samples_per_prompt": 4})
    course.add({"step": 1})
    assert course.tokens == 0


def test_a_change_without_an_error_or_a_value_is_none() -> None:
    whole = {"step": 1, "x": 1.0, "x_se": 0.5}
    for row in ({"step": 1, "x": 1.0}, {"step": 1, "x_se": 0.5}, whole | {"x_se": "0.5"}):
        assert Course(start=[row], recent=deque([whole])).change("x") is None
        assert Course(start=[whole], recent=deque([row])).change("x") is None
    assert Course(start=[whole], recent=deque([whole])).change("x") == Change(1.0, 1.0, math.sqrt(0.5))


def test_the_largest_rise_and_the_step_that_made_it() -> None:
    rows = [{"step": n, "x": x} for n, x in ((4, 1.0), (5, 3.0), (6, 2.0), (7, 2.5))]
    assert Course(recent=deque(rows)).largest_rise("x") == (2.0, 5)
    assert Course(recent=deque([{"step": 4}, *rows[2:]])).largest_rise("x") == (0.5, 7)
    assert Course(recent=deque(rows[:1])).largest_rise("x") is None
