"""Schedules, at steps worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from rlhf_cli.schedules import Constant, Cosine, Linear, Schedule

KINDS = [
    Constant(kind="constant", value=0.1),
    Linear(kind="linear", start=0.1, end=0.02),
    Linear(kind="linear", start=0.0, end=3.0),
    Cosine(kind="cosine", start=0.1, end=0.02),
    Cosine(kind="cosine", start=1.0, end=2.0),
]


def test_constant_never_changes() -> None:
    assert [Constant(kind="constant", value=0.3).at(step, 5) for step in range(5)] == [0.3] * 5


def test_linear_is_a_straight_line() -> None:
    schedule = Linear(kind="linear", start=1.0, end=3.0)
    assert [schedule.at(step, 5) for step in range(5)] == [1.0, 1.5, 2.0, 2.5, 3.0]


def test_cosine_is_slow_fast_slow() -> None:
    schedule = Cosine(kind="cosine", start=2.0, end=0.0)
    # 1 + cos(0, pi/4, pi/2, 3 pi/4, pi)
    by_hand = [2.0, 1 + math.sqrt(0.5), 1.0, 1 - math.sqrt(0.5), 0.0]
    assert [schedule.at(step, 5) for step in range(5)] == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("schedule", KINDS[1:])
@pytest.mark.parametrize("total", [2, 3, 40])
def test_the_first_step_has_start_and_the_last_one_end(schedule: Linear | Cosine, total: int) -> None:
    assert schedule.at(0, total) == pytest.approx(schedule.start, abs=1e-12)
    assert schedule.at(total - 1, total) == pytest.approx(schedule.end, abs=1e-12)


@pytest.mark.parametrize("schedule", KINDS[1:])
def test_a_run_of_one_step_has_start(schedule: Linear | Cosine) -> None:
    assert schedule.at(0, 1) == schedule.start


@pytest.mark.parametrize("schedule", KINDS)
def test_lowest_is_the_smallest_value_of_all_steps(schedule: Constant | Linear | Cosine) -> None:
    assert min(schedule.at(step, 9) for step in range(9)) == pytest.approx(schedule.lowest, abs=1e-12)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "constant", "value": -0.1},
        {"kind": "constant", "value": math.inf},
        {"kind": "linear", "start": 0.1},
        {"kind": "linear", "start": math.nan, "end": 0.1},
        {"kind": "cosine", "start": 0.1, "end": -1.0},
        {"kind": "constant", "value": 0.1, "end": 0.2},
        {"kind": "constant", "value": "0.1"},
        {"kind": "step", "value": 0.1},
    ],
)
def test_nonsense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Schedule).validate_python(fields)


def test_kind_chooses_the_schedule() -> None:
    found = TypeAdapter(Schedule).validate_python({"kind": "cosine", "start": 1, "end": 0})
    assert isinstance(found, Cosine)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("name", ["start", "end"])
@pytest.mark.parametrize("value", [math.inf, math.nan, -0.1])
def test_ends_that_make_no_sense_are_refused(kind: str, name: str, value: float) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Schedule).validate_python({"kind": kind, "start": 1.0, "end": 0.5} | {name: value})


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("total", [2, 3, 7, 50])
def test_both_ends_are_exact(kind: str, total: int) -> None:
    for start, end in ((1.3, 1.0), (0.1, 0.0), (0.3, 0.7), (1.1, 0.1)):
        schedule = TypeAdapter(Schedule).validate_python({"kind": kind, "start": start, "end": end})
        assert (schedule.at(0, total), schedule.at(total - 1, total)) == (start, end)
