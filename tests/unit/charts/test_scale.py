"""report.scale: round ticks by hand."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rlhf_cli.charts.scale import Scale, decades, extent, has_place, labels, log_ticks, ticks

SIZES = st.floats(-1e30, 1e30).filter(lambda value: value == 0 or abs(value) > 1e-30)


@pytest.mark.parametrize(
    ("low", "high", "inside"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),  # 1 / 5 = 0.2
        (0.0, 200.0, [0.0, 50.0, 100.0, 150.0, 200.0]),  # 200 / 5 = 40, the next round one is 50
        (-0.3, 0.4, [-0.2, 0.0, 0.2, 0.4]),  # 0.7 / 5 = 0.14 -> 0.2
        (1e-5, 4e-5, [1e-5, 2e-5, 3e-5, 4e-5]),  # 0.6e-5 -> 1e-5
        (1000.0, 41000.0, [10000.0, 20000.0, 30000.0, 40000.0]),  # 8000 -> 10000
        (0.0, 5.0, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),  # 1 itself
        (0.0, 10.0, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]),
        (0.0, 25.0, [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]),
        (0.0, 0.3 - 1e-17, [0.0, 0.1, 0.2, 0.3]),  # rounding is no reason for another step, nor for a tick less
        (0.0, 1.5 * (1 + 1e-10), [0.0, 0.5, 1.0, 1.5]),
        (0.0, 1.0 + 1e-10, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ],
)
def test_ticks_are_round_and_exact(low: float, high: float, inside: list[float]) -> None:
    assert ticks(low, high, 5) == inside


def test_ticks_outside_hold_the_range() -> None:
    assert ticks(-0.3, 0.5, 5, outside=True) == [-0.4, -0.2, 0.0, 0.2, 0.4, 0.6]
    assert ticks(0.0, 1.0, 5, outside=True) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]  # on the ends already
    assert ticks(-1e-8, 3.0, 5, outside=True) == [0.0, 1.0, 2.0, 3.0]  # rounding below zero is no reason for -1
    assert ticks(0.0, 1.0 + 1e-8, 5, outside=True) == [0.0, 0.5, 1.0]  # nor is it one for 1.5
    assert ticks(0.6, 1.6, 5, outside=True) == [0.6, 0.8, 1.0, 1.2, 1.4, 1.6]  # although 0.6 / 0.2 < 3


@given(st.lists(SIZES, min_size=1, max_size=5), st.integers(2, 8))
def test_any_extent_has_ticks_that_hold_it(values: list[float], count: int) -> None:
    low, high = extent(values)
    assert low <= min(values) <= max(values) <= high
    assert low < high
    inside, outside = ticks(low, high, count), ticks(low, high, count, outside=True)
    assert len(inside) <= count + 1
    room = (high - low) * 1e-6
    assert outside[0] <= low + room
    assert outside[-1] >= high - room
    assert all(low - room <= tick <= high + room for tick in inside)
    assert len(set(labels(outside))) == len(outside)


def test_equal_values_get_room_on_both_sides() -> None:
    assert extent([5.0, 5.0]) == (4.5, 5.5)
    assert extent([1e9, 1e9 + 1e-6]) == pytest.approx((0.9e9, 1.1e9))  # too close to tell apart in a label
    assert extent([0.2, 0.2 + 1.9e-7]) == pytest.approx((0.18, 0.22), rel=1e-6)  # float32's rounding
    assert extent([0.0]) == (0.0, 1.0)
    assert extent([8.0], log=True) == (4.0, 16.0)
    assert extent([3.0, 3.5]) == (3.0, 3.5)
    assert extent([-1e-6, 1e-6]) == (-1e-6, 1e-6)
    assert extent([-2.0, 0.0]) == (-2.0, 0.0)
    assert extent([-5.0, -5.0]) == (-5.5, -4.5)
    assert extent([0.0, 1e-301]) == (0.0, 1e-301 + 1e-302)
    assert extent([]) == (0.0, 1.0)
    assert extent([], log=True) == (1.0, 10.0)


def test_log_ticks_by_hand() -> None:
    assert log_ticks(1e-6, 1e-2, 7) == [1e-6, 1e-5, 1e-4, 1e-3, 1e-2]
    assert log_ticks(1.0, 30.0, 7) == [1.0, 2.0, 5.0, 10.0, 20.0]
    assert log_ticks(1.0, 1e9, 5) == [1.0, 1e2, 1e4, 1e6, 1e8]  # ten powers: every second one
    assert log_ticks(3.0, 4.0, 5) == ticks(3.0, 4.0, 5)  # no power within
    assert log_ticks(1.0, 10.0, 4) == [1.0, 2.0, 5.0, 10.0]  # as many as there may be
    assert log_ticks(1.5, 6.0, 5) == [2.0, 5.0]  # two are enough


@given(st.floats(1e-30, 1e30), st.floats(1e-30, 1e30), st.integers(2, 8))
def test_log_ticks_lie_inside(a: float, b: float, count: int) -> None:
    assume(a != b)
    low, high = extent([a, b], log=True)
    found = log_ticks(low, high, count)
    assert all(low * (1 - 1e-6) <= tick <= high * (1 + 1e-6) for tick in found)
    assert len(found) <= count + 1


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.0, 0.5, 1.0], ["0.0", "0.5", "1.0"]),
        ([-0.02, 0.0], ["−0.02", "0.00"]),
        ([0.0, 50.0, 100.0], ["0", "50", "100"]),
        ([0.0, 1e-5, 2e-5], ["0", "1e−5", "2e−5"]),
        ([9.5e7, 1e8], ["9.50e7", "1.00e8"]),
        ([3.0], ["3"]),
        ([0.0], ["0"]),
        ([0.0, 1e-4], ["0.0000", "0.0001"]),
        ([0.0, 9e5], ["0", "900000"]),
        ([0.0, 1e6], ["0", "1e6"]),
        ([1.0, 2.0, 2.5], ["1.0", "2.0", "2.5"]),
        ([0.0, 0.1 * (1 - 1e-12), 0.2], ["0.0", "0.1", "0.2"]),
        ([], []),
    ],
)
def test_labels_have_as_many_digits_as_they_need(values: list[float], texts: list[str]) -> None:
    assert labels(values) == texts


def test_log_labels_are_short() -> None:
    assert labels([1e-6, 0.002, 1.0, 1e6], log=True) == ["1e−6", "0.002", "1", "1e6"]


def test_a_scale_maps_ends_to_ends() -> None:
    down = Scale(0.0, 4.0, 300.0, 100.0)
    assert [down.at(v) for v in (0.0, 1.0, 4.0)] == [300.0, 250.0, 100.0]
    assert Scale(1.0, 100.0, 0.0, 10.0, log=True).at(10.0) == 5.0
    assert [Scale(2.0, 6.0, 10.0, 30.0).at(v) for v in (2.0, 3.0, 6.0, 8.0)] == [10.0, 15.0, 30.0, 40.0]


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0.04, 8.0, [0.01, 0.1, 1.0, 10.0]),
        (0.1, 100.0, [0.1, 1.0, 10.0, 100.0]),  # on the ends already
        (0.1 * (1 - 1e-12), 100.0 * (1 + 1e-12), [0.1, 1.0, 10.0, 100.0]),
        (2.0, 3.0, [1.0, 10.0]),
        (1.0, 1.0 + 1e-12, [1.0, 10.0]),  # never one alone
        (1e-3, 1e9, [1e-3, 1.0, 1e3, 1e6, 1e9]),  # 12 decades in 5 steps: every third
        (1e-2, 1e9, [1e-3, 1.0, 1e3, 1e6, 1e9]),
    ],
)
def test_decades_hold_the_range(low: float, high: float, found: list[float]) -> None:
    assert decades(low, high, 5) == pytest.approx(found, rel=1e-12)


@given(st.floats(1e-100, 1e100), st.floats(1, 1e60), st.integers(2, 8))
def test_any_positive_range_has_decades(low: float, ratio: float, count: int) -> None:
    found = decades(low, low * ratio, count)
    assert found[0] <= low * (1 + 1e-8)
    assert found[-1] >= low * ratio * (1 - 1e-8)
    assert 2 <= len(found) <= count + 3


def test_what_has_a_place_on_an_axis() -> None:
    assert has_place(-1.0, False)
    assert has_place(1e-9, True)
    assert not has_place(0.0, True)
    assert not has_place(float("nan"), False)
