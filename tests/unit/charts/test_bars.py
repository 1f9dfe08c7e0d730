"""report.bars: what was drawn, read back from the picture."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from rlhf_cli.charts.pictures import Bars, BarSeries
from rlhf_cli.charts.svg import svg
from tests.unit.charts.drawn import assert_inside, corners, of_class, parse, size, texts


def bars(categories: list[str], *series: BarSeries) -> str:
    return svg(Bars("title", "y", categories, series))


def sides(picture: str, i: int) -> list[tuple[float, float, float, float]]:
    """Left, top, right, bottom of every bar of series `i`; its sample in the legend comes last."""
    found = [corners(one) for one in of_class(picture, f"c{i}") if one.get("class", "").startswith("bar ")]
    return [(*a, *b) for a, b in found]


def test_bars_stand_on_zero_side_by_side_and_as_high_as_they_say() -> None:
    picture = bars(["a", "b"], BarSeries("p", [1.0, 0.5]), BarSeries("q", [0.25, -1.0]))
    (p1, p2, _), (q1, q2, _) = sides(picture, 0), sides(picture, 1)
    (zero,) = [corners(one)[0][1] for one in of_class(picture, "axis")]
    assert p1[3] == p2[3] == q1[3] == q2[1] == zero
    # y runs from -1 to 1 over 240: 1 is 120 high
    assert [round(one[3] - one[1]) for one in (p1, p2, q1, q2)] == [120, 60, 30, 120]
    assert p1[2] == pytest.approx(q1[0], abs=0.2)
    assert q1[2] < p2[0] - 10
    assert_inside(picture)


def test_two_bars_by_hand() -> None:
    """The plot begins at 12 + 26.88 + 8, right of the widest "0.0", and ends at 480 - 12: a slot is 210.56 wide.

    A bar takes 0.8 of it, from a tenth on. Title and y take 72 above the plot, which is 240 high.
    """
    picture = bars(["aa", "b"], BarSeries("s", [1.0, 0.5]))
    assert '<rect class="bar c0" x="67.9" y="72" width="168.4" height="240">' in picture
    assert '<rect class="bar c0" x="278.5" y="192" width="168.4" height="120">' in picture
    assert '<text class="middle" x="152.2" y="334">aa</text>' in picture  # 22 below it
    assert '<text class="middle" x="362.7" y="334">b</text>' in picture
    assert 'viewBox="0 0 480 380"' in picture  # 12 more to the legend of 22, and the edge


def test_turned_names_by_hand() -> None:
    """Twelve slots of 35 hold no name of 89.6, which reaches 63.36 to the left of its bar's middle: 57.8 is left of it.

    The slots are 34.18 then, and two bars of each 13.67.
    """
    picture = bars(["abcdefghij", *"bcdefghijkl"], BarSeries("s", [1.0] * 12), BarSeries("u", [0.5] * 12))
    assert '<rect class="bar c0" x="61.2" y="72" width="13.7" height="240"><title>abcdefghij: s 1' in picture
    assert '<rect class="bar c1" x="74.9" y="192" width="13.7" height="120"><title>abcdefghij: u 0.5' in picture
    assert '<rect class="bar c1" x="450.9" y="192" width="13.7" height="120"><title>l: u 0.5' in picture
    assert '<text class="end" x="80.2" y="328" transform="rotate(-45 80.2 328)">abcdefghij</text>' in picture
    assert 'viewBox="0 0 480 437.4"' in picture


def test_a_name_may_take_its_slot_but_for_four() -> None:
    """Of one slot of 421.12: names of 412.16 and of 416.64 do, those of 419.2 and of 421.12 do not."""
    for letters, wide, is_level in ((46, 0, True), (34, 7, True), (45, 1, False), (47, 0, False)):
        name = "x" * letters + "\N{HIRAGANA LETTER A}" * wide
        picture = bars([name], BarSeries("", [1.0]))
        assert ("rotate(-45" not in picture) == is_level, name


def test_what_is_not_finite_has_no_bar() -> None:
    picture = bars(["a", "b", "c"], BarSeries("p", [1.0, math.nan, math.inf]))
    assert len(sides(picture, 0)) == 1 + 1  # and the legend's
    assert_inside(picture)


def test_names_that_fit_stand_level_and_others_are_turned() -> None:
    level = bars(["a", "b"], BarSeries("p", [1.0, 2.0]))
    assert [one.text for one in of_class(level, "middle")] == ["a", "b"]
    names = [f"a longer name {i}" for i in range(10)]
    turned = bars(names, BarSeries("p", [1.0] * 10))
    assert sum("rotate" in one.get("transform", "") for one in parse(turned).iter()) == 10
    assert set(names) <= set(texts(turned))  # in full
    assert_inside(turned)


def test_very_long_names_are_cut() -> None:
    picture = bars(["many words " * 20, "b"], BarSeries("p", [1.0, 2.0]))
    assert any(one.endswith("…") for one in texts(picture))
    assert_inside(picture)
    # at 200: the plot begins at 12 + 141.42 - 105.28, and its first bar a tenth of a slot of 209.93 later
    assert sides(picture, 0)[0][0] == pytest.approx(48.14 + 20.99, abs=0.1)


def test_of_very_many_names_some_are_shown() -> None:
    picture = bars([f"category {i}" for i in range(200)], BarSeries("p", [float(i) for i in range(200)]))
    places = [corners(one)[0][0] for one in parse(picture).iter() if "rotate" in one.get("transform", "")]
    assert len(places) > 5
    assert min(b - a for a, b in pairwise(places)) >= 22
    assert_inside(picture)


def test_all_zero_and_nothing_at_all_can_be_drawn() -> None:
    assert len(sides(bars(["a"], BarSeries("p", [0.0])), 0)) == 2
    assert_inside(bars([]))


def test_names_are_escaped() -> None:
    picture = bars(["<eos>"], BarSeries("a & b", [1.0]))
    assert {"<eos>", "a & b"} <= set(texts(picture))
    assert size(picture)[0] == 480


def test_a_value_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        bars(["a", "b"], BarSeries("p", [1.0]))
