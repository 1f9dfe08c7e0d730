"""report.chart: what was drawn, read back from the picture."""

from __future__ import annotations

import math
import re
from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.charts.frame import COLOURS, STYLE
from rlhf_cli.charts.pictures import Chart, Mark, Series, Style
from rlhf_cli.charts.series import ASCENT
from rlhf_cli.charts.svg import svg
from rlhf_cli.charts.words import FONT, width
from tests.unit.charts.drawn import SVG, assert_inside, corners, of_class, parse, size, texts

NAN = math.nan


def chart(*series: Series, **more: Any) -> str:
    return svg(Chart("title", "x", "y", series, **more))


def test_a_line_runs_from_corner_to_corner() -> None:
    # x 0 .. 10 and y 0 .. 1 are round: the line spans the axis and the outermost grid lines.
    picture = chart(Series("a", [0.0, 5.0, 10.0], [0.0, 0.5, 1.0]))
    (line,) = of_class(picture, "c0")[:1]
    (left, bottom), (middle, centre), (right, top) = corners(line)
    assert (middle, centre) == (pytest.approx((left + right) / 2, abs=0.1), pytest.approx((top + bottom) / 2, abs=0.1))
    assert bottom - top == 240
    heights = [corners(one)[0][1] for one in of_class(picture, "grid")]
    assert min(heights) == top
    assert {"0", "10", "0.0", "1.0"} <= set(texts(picture))


def test_on_two_logarithmic_axes_a_power_law_is_straight() -> None:
    # y = 1 / x: 10, 100, 1000 lie evenly, and 0 is a gap
    picture = chart(Series("a", [10.0, 100.0, 1000.0, 2000.0], [0.1, 0.01, 0.001, 0.0]), x_log=True, y_log=True)
    (line,) = of_class(picture, "c0")[:1]
    (left, top), (middle, centre), (right, bottom) = corners(line)
    assert centre == pytest.approx((top + bottom) / 2, abs=0.1)
    assert middle == pytest.approx((left + right) / 2, abs=0.1)
    assert {"0.1", "0.01", "0.001"} <= set(texts(picture))


VALUES = st.floats(-1e30, 1e30) | st.sampled_from([NAN, math.inf, -math.inf, 0.0])


@given(
    st.lists(st.tuples(VALUES, VALUES, VALUES, VALUES), max_size=8),
    st.sampled_from(["line", "dashed", "points"]),
    st.booleans(),
    st.booleans(),
    st.lists(VALUES, max_size=3),
)
def test_every_finite_point_is_inside_and_every_other_is_a_gap(
    rows: list[tuple[float, float, float, float]], style: Style, x_log: bool, y_log: bool, marks: list[float]
) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
    series = Series("a", *columns, style=style)
    picture = chart(series, x_log=x_log, y_log=y_log, marks=[Mark(x, "a mark") for x in marks])
    assert "nan" not in picture
    assert "inf" not in picture.replace("infinite", "")
    assert_inside(picture)
    drawn = [one for kind in ("points", "line", "dashed") for one in of_class(picture, kind)]
    count = sum(len(corners(one)) for one in drawn if one.tag.endswith(("circle", "path")))
    in_legend = style == "points"
    finite = [(x, y) for x, y, *_ in rows if math.isfinite(x) and math.isfinite(y)]
    known = [(x, y) for x, y in finite if (x > 0 or not x_log) and (y > 0 or not y_log)]
    assert count == len(known) + in_legend
    assert len(of_class(picture, "mark")) == sum(math.isfinite(x) and (x > 0 or not x_log) for x in marks)


def test_a_gap_parts_the_line_and_a_lone_point_is_a_dot() -> None:
    picture = chart(Series("a", range(6), [0.0, 1.0, NAN, 1.0, math.inf, 0.0]))
    paths = [one for one in of_class(picture, "line") if one.tag.endswith("path")]
    assert [len(corners(path)) for path in paths] == [2]
    assert len(of_class(picture, "points")) == 2


def test_a_band_goes_round_its_line() -> None:
    picture = chart(Series("a", [0.0, 1.0], [0.5, 0.5], low=[0.0, 0.25], high=[1.0, NAN]))
    (band,) = of_class(picture, "band")
    (_, y0), (_, y1), (_, y2), (_, y3) = corners(band)
    # y grows downwards: high 1 and 0.5 (not known: the line itself), back along low 0.25 and 0
    assert y3 - y0 == pytest.approx(240)
    assert (y3 - y1, y3 - y2) == (pytest.approx(120), pytest.approx(60))


def test_points_have_error_bars_where_the_interval_is_known() -> None:
    picture = chart(Series("a", [1.0, 2.0], [1.0, 2.0], [0.0, NAN], [2.0, NAN], "points"))
    assert len(of_class(picture, "error")) == 3  # one bar and its two caps


def test_points_of_several_series_at_one_step_stand_side_by_side() -> None:
    """Three abreast, ten apart: the middle one at the tick; a series of lines stays where it is."""
    runs = [Series(name, [0, 32], [1.0, 2.0], style="points") for name in "abc"]
    picture = svg(Chart("t", "step", "y", [Series("d", [0, 32], [1.0, 2.0]), *runs]))
    ticks = [corners(line)[0][0] for line in of_class(picture, "axis")[1:]]  # the first is the axis
    dots = [corners(dot)[0][0] for dot in of_class(picture, "points") if dot.find(f"{SVG}title") is not None]
    assert [dot - ticks[0] for dot in dots[::2]] == pytest.approx([-10, 0, 10], abs=0.11)
    (line,) = of_class(picture, "line")[:1]
    assert corners(line)[0][0] == pytest.approx(ticks[0], abs=0.11)


def test_points_at_steps_of_their_own_stay_there() -> None:
    runs = [Series("a", [0, 32], [1.0, 2.0], style="points"), Series("b", [16], [1.0], style="points")]
    dots = [corners(dot)[0][0] for dot in of_class(svg(Chart("t", "step", "y", runs)), "points")][:3]
    assert dots[2] == pytest.approx((dots[0] + dots[1]) / 2, abs=0.11)


@pytest.mark.parametrize("count", [7, 40])
def test_many_series_of_points_stay_inside(count: int) -> None:
    runs = [Series(str(i), [0, 1, 32], [1.0, 2.0, 3.0], style="points") for i in range(count)]
    picture = svg(Chart("t", "step", "y", runs))
    assert_inside(picture)
    xs = [corners(dot)[0][0] for dot in of_class(picture, "points")][: 3 * count]
    assert max(xs[::3]) < min(xs[1::3])  # those of step 0 end before those of step 1


def test_points_do_not_stand_on_the_axis() -> None:
    picture = chart(Series("a", [0.0, 1.0], [1.0, 2.0], style="points"))
    (left, _), (right, _) = corners(of_class(picture, "grid")[0])
    first, last, _ = (corners(one)[0][0] for one in of_class(picture, "points"))
    assert left + 5 < first < last < right - 5


@pytest.mark.parametrize("xs", [[0.0, 1.0], [3.0]])
def test_constant_series_and_a_single_point_stand_in_the_middle(xs: list[float]) -> None:
    picture = chart(Series("a", xs, [5.0] * len(xs)))
    drawn = next(one for one in of_class(picture, "c0") if not one.tag.endswith("line"))
    heights = [corners(one)[0][1] for one in of_class(picture, "grid")]
    assert {y for _, y in corners(drawn)} == {(min(heights) + max(heights)) / 2}


def test_a_logarithmic_x_puts_the_powers_of_ten_at_equal_distances() -> None:
    picture = chart(Series("a", [0.0, 1.0, 10.0, 100.0], [1.0, 1.0, 2.0, 3.0]), x_log=True)
    (line,) = (one for one in of_class(picture, "line") if one.tag.endswith("path"))
    xs = [x for x, _ in corners(line)]
    assert len(xs) == 3
    assert xs[2] - xs[1] == pytest.approx(xs[1] - xs[0], abs=0.2)


def test_x_begins_at_zero_where_the_data_nearly_do() -> None:
    def begins_with_zero(xs: list[float]) -> bool:
        return "0" in texts(chart(Series("a", xs, [1.0, 1.5])))

    assert begins_with_zero([1.0, 200.0])
    assert not begins_with_zero([100.0, 200.0])
    assert not begins_with_zero([-200.0, -1.0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(1, 30))
def test_names_of_marks_neither_touch_each_other_nor_the_lines_of_others(xs: list[float], length: int) -> None:
    picture = chart(Series("a", [0.0, 1.0], [0.0, 1.0]), marks=[Mark(x, "m" * length) for x in xs])
    lines = [corners(one) for one in of_class(picture, "mark")]
    names = [(*corners(one)[0], one.text or "") for one in parse(picture).iter() if set(one.text or "") == {"m"}]
    for x, y, name in names:
        assert x + width(name) <= size(picture)[0]
        for other_x, other_y, other in names:
            apart = other_x >= x + width(name) or x >= other_x + width(other) or abs(y - other_y) >= 16
            assert apart or (x, y, name) == (other_x, other_y, other)
        for (line_x, begin), _ in lines:
            assert not (x < line_x < x + width(name) and begin < y)


def test_the_plot_leaves_room_for_the_name_of_the_last_mark() -> None:
    picture = chart(Series("a", [0.0, 1.0], [0.0, 1.0]), marks=[Mark(0.0, "begin"), Mark(1.0, "where it all ends")])
    assert {"begin", "where it all ends"} <= set(texts(picture))


@pytest.mark.parametrize("last", [7.0, 1e5, 123456789.0, 3e-7])
def test_names_of_ticks_do_not_touch(last: float) -> None:
    picture = chart(Series("a", [0.0, last], [0.0, 1.0]))
    names = [one for one in of_class(picture, "middle") if one.text != "x"]
    assert len(names) >= 2
    for one, other in pairwise(names):
        assert corners(one)[1][0] + 8 < corners(other)[0][0]
    assert_inside(picture)


def test_the_legend_lies_below_everything_and_wraps() -> None:
    names = [f"algorithm number {i}" for i in range(9)]
    picture = chart(*(Series(name, [0.0, 1.0], [0.0, float(i)]) for i, name in enumerate(names)))
    found = [one for one in parse(picture).iter() if (one.text or "") in names]
    assert [one.text for one in found] == names
    label = next(one for one in of_class(picture, "middle") if one.text == "x")
    assert all(corners(one)[0][1] > corners(label)[0][1] for one in found)
    assert len({corners(one)[0][1] for one in found}) > 1
    assert all(corners(one)[0][0] + width(one.text or "") <= size(picture)[0] for one in found)
    assert_inside(picture)


def test_a_series_without_a_name_is_not_in_the_legend() -> None:
    with_name, without = (chart(Series(name, [0.0, 1.0], [0.0, 1.0])) for name in ("a", ""))
    assert size(with_name)[1] - size(without)[1] == 22


def test_texts_are_escaped_and_the_picture_has_a_name() -> None:
    words = '<b> & "quotes" \x00'
    picture = svg(Chart(words, words, words, [Series(words, [0.0], [0.0])], marks=[Mark(0.0, words)]))
    root = parse(picture)
    shown = '<b> & "quotes" ·'
    assert (root.get("role"), root.get("aria-label")) == ("img", shown)
    assert root[0].text == shown
    assert texts(picture).count(shown) == 5  # title, x, y, mark, legend


def test_long_texts_stay_inside() -> None:
    words = "a rather long text of many words " * 8
    picture = svg(Chart(words, words, words, [Series(words, [0.0], [0.0])], marks=[Mark(0.0, words)]))
    for one in parse(picture).iter():
        if one.get("class") in ("", "title"):
            assert corners(one)[0][0] + width(one.text or "") <= size(picture)[0]
    assert " ".join(one.text or "" for one in of_class(picture, "title")) == words.strip()  # wrapped, not cut
    assert_inside(picture)


def test_it_has_no_size_of_its_own() -> None:
    root = parse(chart())
    assert root.get("width") is None
    assert root.get("height") is None


def test_columns_of_different_lengths_are_refused() -> None:
    for series in (
        Series("a", [0.0, 1.0], [0.0]),
        Series("a", [0.0], [0.0], low=[]),
        Series("a", [0.0], [0.0], high=[]),
    ):
        with pytest.raises(ValueError, match="shorter"):
            chart(series)


def test_points_may_have_error_bars_across_and_names() -> None:
    points = Series("a", [2.0, 4.0], [0.0, 1.0], style="points", x_low=[1.0, NAN], x_high=[3.0, NAN], names=["7", ""])
    picture = chart(points, Series("b", [0.0, 8.0], [0.0, 1.0]))
    errors = [corners(one) for one in of_class(picture, "error")]
    assert len(errors) == 3  # one bar and its two caps
    (left, y), (right, same) = errors[0]
    first, *_ = of_class(picture, "points")
    ((x, height),) = corners(first)
    assert (y, same) == (height, height)
    assert x == pytest.approx((left + right) / 2, abs=0.1)
    # x is 0 .. 8 across the axis less the inset: the bar of 2 is a quarter of it
    (start, _), (end, _) = corners(next(one for one in of_class(picture, "c1") if one.tag.endswith("path")))
    assert right - left == pytest.approx((end - start) / 4, abs=0.2)
    (name,) = of_class(picture, "name")
    assert name.text == "7"
    assert corners(name)[0][0] > x


def test_error_bars_across_are_inside_of_the_picture() -> None:
    picture = chart(Series("a", [2.0], [0.0], style="points", x_low=[-50.0], x_high=[90.0]))
    assert_inside(picture)
    assert {"−40", "80"} & set(texts(picture))


def test_a_name_without_room_on_the_right_stands_on_the_left() -> None:
    points = Series("a", [0.0, 1.0], [0.0, 1.0], style="points", names=["first", "a long one"])
    picture = chart(points)
    assert_inside(picture)
    first, last = of_class(picture, "name")
    assert "end" not in first.get("class", "").split()
    assert "end" in last.get("class", "").split()


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=2, max_size=9, unique=True))
def test_names_of_points_keep_clear_of_one_another_and_of_other_dots(places: list[tuple[int, int]]) -> None:
    xs, ys = [10.0 * x for x, _ in places], [10.0 * y for _, y in places]
    half = len(places) // 2
    names = [f"n{i}" for i in range(len(places))]
    picture = chart(
        Series("a", xs[:half], ys[:half], style="points", names=names[:half]),
        Series("b", xs[half:], ys[half:], style="points", names=names[half:]),
    )
    drawn = {one.text: corners(one) for one in of_class(picture, "name")}
    assert sorted(drawn) == names
    for (one, ((left, _), (right, base))), (other, ((start, _), (end, line))) in combinations(drawn.items(), 2):
        assert right <= start or end <= left or abs(base - line) >= 0.7 * FONT, (one, other)


def test_a_name_of_the_highest_point_keeps_clear_of_the_name_of_y() -> None:
    picture = chart(Series("", [0.5, 1.0], [0.5, 1.0], style="points", names=["low", "high"]))
    names = {one.text: corners(one)[0][1] for one in parse(picture).iter(f"{SVG}text")}
    assert names["high"] - ASCENT > names["y"] + FONT / 2


def test_a_name_moves_where_another_point_is() -> None:
    picture = chart(Series("a", [0.0, 0.5, 10.0], [0.0, 0.0, 1.0], style="points", names=["left", "next", "end"]))
    at = {one.text: (one.get("class"), corners(one)[-1][1]) for one in of_class(picture, "name")}
    assert at["next"][0] == "name"  # nothing stands in its way
    assert at["left"][1] != at["next"][1]  # the right side is the other's, and the left end of the picture is near


def test_series_of_one_colour_keep_it() -> None:
    picture = chart(Series("a", [0.0, 1.0], [0.0, 1.0], colour=4), Series("b", [0.0, 1.0], [1.0, 0.0], colour=4))
    assert len(of_class(picture, "c4")) == 4  # two lines and their samples in the legend
    assert of_class(picture, "c0") == of_class(picture, "c1") == []


def lab(colour: str) -> tuple[float, float, float]:
    """CIE L*a*b* of a colour of sRGB, D65: in it, equal distances look about equally far apart."""
    shares = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    r, g, b = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    x, y, z = (
        0.4124 * r + 0.3576 * g + 0.1805 * b,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        0.0193 * r + 0.1192 * g + 0.9505 * b,
    )
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x / 0.9505, y, z / 1.089))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def test_the_measure_of_colours() -> None:
    assert lab("#ffffff") == pytest.approx((100, 0, 0), abs=0.05)
    assert lab("#ff0000") == pytest.approx((53.24, 80.09, 67.20), abs=0.05)


def test_no_two_colours_are_alike_on_light_or_on_dark_paper() -> None:
    """The points of a sweep (5) are not taken for the best of n (0)."""
    light, dark = STYLE.split("@media")[0], STYLE.split("@media")[1].split("}")[0]
    colours: dict[str, str] = {}
    for part in (light, dark):
        colours |= dict(re.findall(r"--(c\d): (#\w+)", part)) | {"c6": re.findall(r"[ {]color: (#\w+)", part)[0]}
        assert len(colours) == COLOURS
        assert min(math.dist(lab(a), lab(b)) for a, b in combinations(colours.values(), 2)) > 25
