"""report.text: pictures in characters, read back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.charts.pictures import Bars, BarSeries, Chart, Mark, Series, Style
from rlhf_cli.charts.terminal import Row, rows


def text(row: Row) -> str:
    return "".join(part for part, _ in row)


def test_a_curve_without_colours() -> None:
    # y 0 .. 2 in 5 rows, one a half; x 0 .. 4 over 80 - 2 - 3 = 75 columns: the rising line meets the first and last
    chart = Chart("t", "x", "y", [Series("up", [0.0, 4.0], [0.0, 2.0])])
    title, y_label, *plot, line, ends, legend = (text(row) for row in rows(chart, 80, colours=False, height=5))
    assert (title, y_label.strip(), legend) == ("t", "y", " ** up ")
    assert [row[:5] for row in plot] == ["2.0 ┤", "1.5 ┤", "1.0 ┤", "0.5 ┤", "0.0 ┤"]
    assert [row.count("*") for row in plot] == pytest.approx([9, 19, 19, 19, 9], abs=1)
    assert plot[0].rstrip()[-1] == plot[-1][5] == "*"
    assert len(plot[0].rstrip()) == 80
    assert ends.split() == ["0", "x", "4"]
    assert line.endswith("─")


def test_a_curve_of_dots() -> None:
    # one point at the top left: the first dot of the first character; one at the bottom right: the last of the last
    chart = Chart("t", "x", "y", [Series("a", [0.0, math.nan, 1.0], [1.0, 0.0, 0.0])])
    plot = rows(chart, 40, colours=True, height=3)[2:5]
    assert plot[0][1] == ("\u2801", "bright_blue")
    assert plot[2][-1] == ("\u2880", "bright_blue")
    assert {part for row in plot for part, _ in row[1:]} == {" ", "\u2801", "\u2880"}


def test_points_and_marks() -> None:
    chart = Chart("t", "x", "y", [Series("a", [0.0, 2.0], [0.0, 1.0], style="points")], marks=[Mark(1.0, "one")])
    drawn = [text(row) for row in rows(chart, 43, colours=True)]
    place = drawn[2].index("one")
    assert all(row[place] == "┊" for row in drawn[3:14])
    assert sum(row.count("●") for row in drawn[3:14]) == 2


def test_bars_are_as_long_as_their_values() -> None:
    bars = Bars("t", "", ["a", "bb"], [BarSeries("x", [1.0, 0.5]), BarSeries("y", [0.0, 0.25])])
    drawn = [text(row) for row in rows(bars, 50, colours=False)]
    assert [row.count("█") for row in drawn[1:5]] == [40, 0, 20, 0]
    assert [row.count("▒") for row in drawn[1:5]] == [0, 0, 0, 10]
    assert [row.split()[-1] for row in drawn[1:5]] == ["1.000", "0.000", "0.500", "0.250"]
    assert drawn[5] == " ██ x  ▒▒ y "


def test_bars_below_zero_and_without_a_value() -> None:
    bars = Bars("t", "", ["a", "b", "c"], [BarSeries("x", [-2.0, 1.0, math.nan])])
    drawn = [text(row) for row in rows(bars, 49, colours=False)]
    assert [row.count("█") for row in drawn[1:4]] == [40, 20, 0]
    assert [row.split()[-1] for row in drawn[1:4]] == ["-2.000", "1.000", "nan"]
    assert [text(row).strip() for row in rows(Bars("t", "", [], []), 49, colours=False)] == ["t", ""]


@pytest.mark.parametrize("colours", [True, False])
@pytest.mark.parametrize("width", [1, 12, 20])
def test_a_chart_on_a_narrow_terminal(width: int, colours: bool) -> None:
    chart = Chart("t", "KL, nats", "y", [Series("a", [-1.2345e-5, -1.2345e7], [0.0, 2.0])], marks=[Mark(0.0, "one")])
    ends = text(rows(chart, width, colours)[-2])
    assert ends.split() == ["-1.234e+07", "KL,", "nats", "0"]
    assert len(ends) == 3 + 2 + 24  # the names of y, the axis, the columns


@pytest.mark.parametrize("colours", [True, False])
@pytest.mark.parametrize("style", ["line", "points"])
def test_colours_and_characters_repeat_after_seven_series(colours: bool, style: Style) -> None:
    series = [Series(f"s{n}", [0.0, 1.0], [n, n + 0.5], style=style, names=["", "end"]) for n in range(9)]
    key = [span for row in rows(Chart("t", "x", "y", series), 60, colours)[-2:] for span in row]
    names = {name.strip(): sample for sample, (name, _) in zip(key[::2], key[1::2], strict=True)}
    assert names["s7"] == names["s0"] != names["s8"] == names["s1"]


@pytest.mark.parametrize("colours", [True, False])
def test_fillings_of_bars_repeat_after_seven_series(colours: bool) -> None:
    bars = Bars("t", "", ["a"], [BarSeries(f"s{n}", [1.0]) for n in range(8)])
    drawn = rows(bars, 50, colours)
    assert drawn[8][1] == drawn[1][1]
    assert [row[0][0].strip() for row in drawn[1:9]] == ["a", *[""] * 7]
    assert colours or drawn[2][1] != drawn[1][1]


VALUES = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, 0.0])


@given(
    st.lists(st.tuples(VALUES, VALUES), max_size=6),
    st.sampled_from(["line", "dashed", "points"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(40, 140),
)
def test_no_row_is_wider_than_it_may_be(
    points: list[tuple[float, float]], style: Style, x_log: bool, y_log: bool, colours: bool, width: int
) -> None:
    series = Series("a", [x for x, _ in points], [y for _, y in points], style=style)
    chart = Chart("t", "x", "y", [series], x_log=x_log, y_log=y_log, marks=[Mark(x, "m") for x, _ in points[:1]])
    drawn = rows(chart, width, colours)
    assert max(len(text(row)) for row in drawn) <= width


@pytest.mark.parametrize("colours", [True, False])
def test_names_stand_right_of_their_points_or_left_where_there_is_no_room(colours: bool) -> None:
    points = Series("a", [0.0, math.nan, 1.0], [0.0, 0.0, 1.0], style="points", names=["12", "x", "34"])
    top, _, bottom = (text(row) for row in rows(Chart("t", "x", "y", [points]), 40, colours, height=3)[2:5])
    dot = "●" if colours else "*"
    assert bottom[5:] == f"{dot}12" + " " * 32
    assert top[5:] == " " * 32 + f"34{dot}"
