"""report.heat: what was drawn, read back from the picture."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_cli.charts.heat import FAINTEST, STRONGEST, draw
from rlhf_cli.charts.pictures import HeatMap
from tests.unit.charts.drawn import assert_inside, corners, of_class, size, texts

VALUES = ((0.1, 0.3), (-0.1, math.nan))
HEAT = HeatMap("title", "beta", "temperature", ("0.1", "0.2"), ("0.7", "1"), VALUES, marked=(0, 1))


def test_every_value_stands_in_its_cell_and_the_shade_grows_with_it() -> None:
    picture = draw(HEAT)
    cells = of_class(picture, "cell")
    shades = [float(cell.get("fill-opacity", "")) for cell in cells]
    # 0.1 is halfway between -0.1 and 0.3
    assert shades == [pytest.approx((FAINTEST + STRONGEST) / 2, abs=0.01), STRONGEST, FAINTEST]
    shown = [one for one in texts(picture) if one in ("0.100", "0.300", "−0.100", "–")]
    assert shown == ["0.100", "0.300", "−0.100", "–"]
    assert {"beta", "temperature", "0.1", "0.2", "0.7", "1", "title"} <= set(texts(picture))
    (a, _), (b, _) = (corners(cell) for cell in cells[:2])
    assert (a[1], a[0] < b[0]) == (b[1], True)
    assert corners(cells[2])[0][1] > a[1]


def test_the_border_is_around_the_marked_cell() -> None:
    picture = draw(HEAT)
    (border,) = of_class(picture, "chosen")
    assert corners(border) == corners(of_class(picture, "cell")[1])
    assert not of_class(draw(HeatMap("t", "x", "y", ("1",), ("2",), ((0.0,),))), "chosen")


def test_values_and_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        draw(HeatMap("t", "x", "y", ("1", "2"), ("1",), ((0.0,),)))
    with pytest.raises(ValueError, match="zip"):
        draw(HeatMap("t", "x", "y", ("1",), ("1", "2"), ((0.0,),)))


def test_a_picture_of_many_columns_grows_and_keeps_its_numbers() -> None:
    picture = draw(HeatMap("t", "x", "y", tuple(map(str, range(12))), ("1",), ((-0.125,) * 12,)))
    assert texts(picture).count("−0.125") == 12
    assert size(picture)[0] > 480
    assert_inside(picture)


NAMES = st.lists(st.text(max_size=30), min_size=1, max_size=9)


@settings(max_examples=12)
@given(NAMES, NAMES, st.sampled_from([0.0, 1e30, -1e-9, math.nan, math.inf]), st.text(max_size=200))
def test_everything_is_inside(columns: list[str], rows: list[str], value: float, name: str) -> None:
    values = [[value * i if i else 0.5 for i, _ in enumerate(columns)] for _ in rows]
    picture = draw(HeatMap(name, name, name, columns, rows, values))
    assert "nan" not in picture.replace(name, "")
    assert_inside(picture)
