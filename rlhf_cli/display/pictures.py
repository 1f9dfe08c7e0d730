"""Print pictures on a terminal: as wide as it has room, in colours where it has them."""

from typing import Final

from rich.console import Console
from rich.text import Text

from rlhf_cli.charts.pictures import Picture
from rlhf_cli.charts.terminal import rows

WIDEST: Final = 80
"""The widest picture, in characters."""


def lines(picture: Picture, console: Console, width: int, height: int) -> list[Text]:
    """Draw the picture with `height` rows of plot, at most `width` characters wide."""
    colours = console.color_system is not None and not console.no_color
    return [Text.assemble(*row) for row in rows(picture, width, colours, height)]


def print_picture(picture: Picture, console: Console) -> None:
    """Print the picture with 14 rows of plot."""
    for line in lines(picture, console, min(console.width, WIDEST) - 1, 14):
        console.print(line, soft_wrap=True)
