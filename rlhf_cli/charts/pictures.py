"""Pictures as data: charts of series, groups of bars, heat maps. `charts.svg` and `charts.terminal` draw them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Style = Literal["line", "dashed", "points"]


@dataclass(frozen=True, slots=True)
class Series:
    """Values y over x, joined in their order. A value that is not finite is a gap.

    `low` and `high` hold one value a point: a band around a line, or error bars on points. Only points may also have
    horizontal error bars (`x_low`, `x_high`) and `names` beside them.
    """

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    style: Style = "line"
    x_low: Sequence[float] | None = None
    x_high: Sequence[float] | None = None
    names: Sequence[str] | None = None
    colour: int | None = None
    """The number of its colour, 0 to 6; None: its place in the chart."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line at x, with its name above the plot."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Series over a common x. On a logarithmic axis, zero and negative values are gaps. Colours repeat after seven."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    x_log: bool = False
    y_log: bool = False
    marks: Sequence[Mark] = ()


def colours_of(series: Sequence[Series]) -> list[int]:
    """The number of each series' colour."""
    return [place if one.colour is None else one.colour for place, one in enumerate(series)]


@dataclass(frozen=True, slots=True)
class BarSeries:
    """One value a category. Values that are not finite are left out."""

    label: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars from zero, side by side within each category."""

    title: str
    y_label: str
    categories: Sequence[str]
    series: Sequence[BarSeries]


Picture = Chart | Bars


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Values by column and row. A value that is not finite is a dash without a shade."""

    title: str
    x_label: str
    y_label: str
    columns: Sequence[str]
    rows: Sequence[str]
    values: Sequence[Sequence[float]]
    """Row by row, the first at the top."""
    marked: tuple[int, int] | None = None
    """Row and column of the cell with a border."""
