"""Show a scene on a terminal: a panel of words, the pictures and their findings. A live terminal shows movement."""

import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rlhf_cli.charts.pictures import Picture
from rlhf_cli.charts.terminal import HEIGHT
from rlhf_cli.demo.scene import Scene
from rlhf_cli.display.pictures import lines

FRAME_S: Final = 0.06
LEAST: Final = 5
"""The fewest rows of a plot, for a low terminal."""


def show(scene: Scene, console: Console, moving: bool) -> None:
    """Print the scene; with `moving`, play its frames first."""
    console.print(_panel(scene))
    if moving and scene.frames:
        spare = console.height - len(_drawn(scene.frames[0], console, LEAST).renderables)
        with Live(console=console, transient=True, auto_refresh=False) as live:
            for frame in scene.frames:
                live.update(_drawn(frame, console, max(LEAST, min(HEIGHT, LEAST + spare))), refresh=True)
                time.sleep(FRAME_S)
    if scene.pictures:
        console.print(_drawn(scene.pictures, console, HEIGHT))
    for finding in scene.findings:
        row = Table.grid(padding=(0, 1))
        row.add_row("→", Text(finding))
        console.print(row)
    console.print()


def _panel(scene: Scene) -> Panel:
    words: list[RenderableType] = [Text(paragraph) for paragraph in scene.paragraphs]
    if scene.formula:
        words += ["", Text(scene.formula, style="cyan")]
    if scene.source:
        words += ["", Text(scene.source, style="dim")]
    return Panel(Group(*words), title=Text(scene.heading, style="bold"), title_align="left", padding=(0, 1))


def _drawn(pictures: Sequence[Picture], console: Console, height: int) -> Group:
    """The lines of every picture, with an empty line behind each picture."""
    rows = (lines(picture, console, console.width - 1, height) for picture in pictures)
    return Group(*(line for of_picture in rows for line in (*of_picture, Text())))
