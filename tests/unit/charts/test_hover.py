"""charts.hover: the values where the pointer rests."""

from __future__ import annotations

import math
from xml.etree import ElementTree

from rlhf_cli.charts.hover import strips
from rlhf_cli.charts.pictures import Bars, BarSeries, Chart, Series
from rlhf_cli.charts.scale import Scale
from rlhf_cli.charts.series import Point
from rlhf_cli.charts.svg import svg
from tests.unit.charts.drawn import SVG, assert_inside, of_class, size, texts


def said(element: ElementTree.Element) -> str | None:
    return element.findtext(f"{SVG}title")


def test_a_strip_has_the_values_of_all_series_at_its_step() -> None:
    training = Series("training", [1.0, 2.0, 3.0], [0.5, math.nan, 0.25])
    held_out = Series("held-out", [0.0, 3.0], [0.1, 0.2], [0.0, 0.15], [0.2, 0.25], style="points")
    picture = svg(Chart("title", "step", "y", [training, held_out]))
    strips = of_class(picture, "strip")
    assert [said(strip) for strip in strips] == [
        "step 1\ntraining 0.5",
        "step 3\ntraining 0.25\nheld-out 0.2 [0.15, 0.25]",
    ]
    assert [said(dot) for dot in of_class(picture, "points")] == [
        None,  # a line between two gaps; its strip says it
        None,
        "step 0\nheld-out 0.1 [0, 0.2]",
        "step 3\nheld-out 0.2 [0.15, 0.25]",
        None,  # the legend
    ]
    assert_inside(picture)


def test_strips_share_the_whole_width() -> None:
    strips = of_class(svg(Chart("title", "step", "y", [Series("", [1.0, 2.0, 4.0], [1.0, 2.0, 3.0])])), "strip")
    ends = [(float(strip.get("x", "")), float(strip.get("width", ""))) for strip in strips]
    assert abs(ends[0][0] + ends[0][1] - ends[1][0]) < 0.2
    assert abs(ends[1][0] + ends[1][1] - ends[2][0]) < 0.2
    assert ends[1][1] > ends[2][1] > ends[0][1] > 0  # half way to 4 is further, and the middle one reaches both ways


def test_a_strip_is_as_high_as_the_scale() -> None:
    one = Series("", [1.0, 2.0], [1.0, 2.0])
    drawn = [(one, [[Point(x, x, x, x, x, x, "") for x in (1.0, 2.0)]])]
    first, second = strips("x", drawn, Scale(1.0, 2.0, 10.0, 30.0), Scale(0.0, 2.0, 100.0, 40.0))
    assert first.startswith('<rect class="strip" x="10" y="40" width="10" height="60">')
    assert second.startswith('<rect class="strip" x="20" y="40" width="10" height="60">')


def test_strips_stand_in_order_whichever_series_comes_first() -> None:
    picture = svg(Chart("t", "x", "y", [Series("a", [2.0, 3.0], [1.0, 2.0]), Series("b", [1.0, 3.0], [1.0, 2.0])]))
    assert [said(strip) for strip in of_class(picture, "strip")] == ["x 1\nb 1", "x 2\na 1", "x 3\na 2\nb 2"]


def test_a_name_cannot_leave_its_title() -> None:
    picture = svg(Chart("t", "x", "y", [Series("</title><b>", [1.0, 2.0], [1.0, 2.0])]))
    assert said(of_class(picture, "strip")[0]) == "x 1\n</title><b> 1"


def test_bars_have_their_values() -> None:
    picture = svg(Bars("title", "s", ["rollout", "update"], [BarSeries("", [1.5, 2.25])]))
    assert [said(bar) for bar in of_class(picture, "bar")] == ["rollout: 1.5", "update: 2.25"]


def test_no_tick_stands_between_steps() -> None:
    for last in (2, 3, 5, 8, 31):
        picture = svg(Chart("title", "step", "y", [Series("", [1.0, float(last)], [0.25, 0.75])]))
        below = size(picture)[1] - 60
        ticks = [e.text for e in of_class(picture, "middle") if float(e.get("y", "")) > below and e.text != "step"]
        assert ticks
        assert all(tick is not None and tick.isdigit() for tick in ticks), ticks
    assert "1.5" in texts(svg(Chart("title", "beta", "y", [Series("", [1.0, 1.5, 2.0], [1.0, 2.0, 3.0])])))
