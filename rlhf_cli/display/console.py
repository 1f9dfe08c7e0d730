"""Consoles whose reader may leave: this stops the run that they show, or ends the command."""

import os
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlhf_cli.errors import Stopped


class PlainConsole(Console):
    """A console that prints texts as they are: rich would take [red] for markup and :100: for an emoji."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)


class StoppingConsole(PlainConsole):
    """A console whose reader may leave (`| head`, a tee that Ctrl-C ends first). Then the run stops and is saved."""

    def on_broken_pipe(self) -> None:
        """Print nothing more, and raise Stopped."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        raise Stopped("nobody reads what it says")


class ResultConsole(PlainConsole):
    """A console for the results of a command, or on stderr for its progress, whose reader may end the command."""

    def on_broken_pipe(self) -> None:
        """Print nothing more, and raise BrokenPipeError; rich would exit with 1."""
        self.quiet = True
        raise BrokenPipeError

    def print_fact(self, name: str, text: str, column: int = 11, style: str = "") -> None:
        """Print a name, and the text in its own column: broken between words on a terminal, one line elsewhere."""
        if not self.is_terminal:
            self.print(f"{name:<{column}}{text}", style=style, soft_wrap=True)
            return
        row = Table.grid()
        if column:
            row.add_column(width=column)
        row.add_column(overflow="fold")
        row.add_row(*[name] * bool(column), Text(text, style=style))
        self.print(row)
