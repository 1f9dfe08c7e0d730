"""Any picture as inline SVG.

It carries its own style, light and dark, in colours that colour-blind people can tell apart, and fills the width of the
place it is put in.
"""

from rlhf_cli.charts import bars, chart, heat
from rlhf_cli.charts.pictures import Bars, HeatMap, Picture


def svg(picture: Picture | HeatMap) -> str:
    """The picture as one <svg> element, for a page or a file of its own.

    Raises ValueError where the columns of a series, or of a heat map, differ in length.
    """
    if isinstance(picture, HeatMap):
        return heat.draw(picture)
    return bars.draw(picture) if isinstance(picture, Bars) else chart.draw(picture)
