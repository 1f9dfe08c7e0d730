"""Points on a canvas of characters."""

from __future__ import annotations

import pytest

from rlhf_cli.plot import joined, plot


def test_a_plot_is_exactly_this() -> None:
    # Eleven columns and five rows from (0, -1) to (10, 1): a step of 1 and a step of 0.5
    shown = plot({"*": [(0, -1), (4, 0), (10, 1)], "o": [(4, 0), (6, 0.6)]}, "KL", "reward", width=11, height=5)
    assert shown == (
        "reward\n"
        "     1 │          *\n"
        "       │      o\n"
        "     0 │    o\n"
        "       │\n"
        "    -1 │*\n"
        "       └───────────\n"
        "        0   KL   10"
    )


@pytest.mark.parametrize("points", [[(2.0, 3.0)], [(2.0, 3.0), (2.0, 3.0)]])
def test_a_single_place_is_in_the_middle(points: list[tuple[float, float]]) -> None:
    lines = plot({"*": points}, "x", "y", width=9, height=3).splitlines()
    assert lines[2] == "  3 │    *"
    assert lines[1].startswith("3.5 │")
    assert lines[-1].split() == ["1.5", "x", "2.5"]


@pytest.mark.parametrize("width", [40, 60])
def test_it_is_as_large_as_it_was_asked_to_be(width: int) -> None:
    curve = [(-1e-18, 0.125), (1e-3, 0.2), (12.3456, 0.9)]
    lines = plot({"*": curve}, "KL, nats", "reward", width=width, height=9).splitlines()
    assert len(lines) == 9 + 3
    assert max(map(len, lines)) == width + len("reward │")
    assert lines[-1].split()[0] == "0"  # rounding is no number
    assert lines[-1].endswith("12.3")


def test_a_curve_without_points_is_not_drawn() -> None:
    one = {"*": [(0.0, 0.0), (1.0, 1.0)]}
    assert plot({"o": [], **one}, "x", "y") == plot(one, "x", "y")


def test_points_are_joined_by_straight_lines() -> None:
    assert joined([(0, 0), (4, 2), (4, 4)], parts=2) == [(0, 0), (2, 1), (4, 2), (4, 3), (4, 4)]
    assert joined([(1.0, 2.0)]) == [(1.0, 2.0)]
    assert joined([]) == []
