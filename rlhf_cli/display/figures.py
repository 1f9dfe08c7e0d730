"""Tables of figures for a terminal."""

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text


def titled(title: str | None, caption: str) -> Table:
    """An empty table with the title above it and the caption below, both on the left."""
    return Table(title=title, title_justify="left", caption=Text(caption), caption_justify="left")


def compared(
    names: Sequence[str], rows: Iterable[Sequence[str]], title: str | None, caption: str, *, leads: bool = False
) -> Table:
    """A table of levels and their difference: rows with a name and a figure under each of the `names`.

    `leads`: the first row stands out.
    """
    table = titled(title, caption)
    for place, name in enumerate(("", *names)):
        table.add_column(name, justify="right" if place else "left")
    for place, row in enumerate(rows):
        table.add_row(*row, style="bold" if leads and not place else "")
    return table
