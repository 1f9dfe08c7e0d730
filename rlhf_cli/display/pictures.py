"""Pictures on a terminal: as wide as it has room, in colours where it has them."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.text import Text

from rlhf_cli.charts.pictures import Picture
from rlhf_cli.charts.terminal import rows

WIDEST: Final = 80
"""Characters of a picture beside text."""


def lines(picture: Picture, console: Console, width: int, height: int) -> list[Text]:
    """The picture, `height` rows of plot, in at most `width` characters."""
    colours = console.color_system is not None and not console.no_color
    return [Text.assemble(*row) for row in rows(picture, width, colours, height)]


def print_picture(picture: Picture, console: Console) -> None:
    """Print the picture, 14 rows of plot."""
    for line in lines(picture, console, min(console.width, WIDEST) - 1, 14):
        console.print(line, soft_wrap=True)
