"""Consoles whose reader may leave: this stops the run that they show, or ends the command."""

from __future__ import annotations

import os

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlhf_cli.errors import Stopped


class StoppingConsole(Console):
    """A console whose reader may leave (`| head`, a tee that Ctrl-C ends first). Then the run stops and is saved."""

    def on_broken_pipe(self) -> None:
        """Print nothing more, and raise Stopped."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        raise Stopped("nobody reads what it says")


class ResultConsole(Console):
    """A console for the results of a command, or on stderr for its progress, whose reader may end the command."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(highlight=False, stderr=stderr)

    def on_broken_pipe(self) -> None:
        """Print nothing more, and raise BrokenPipeError; rich would exit with 1."""
        self.quiet = True
        raise BrokenPipeError

    def print_fact(self, name: str, text: str, column: int = 11) -> None:
        """Print a name, and the text in its own column: broken between words on a terminal, one line elsewhere."""
        if not self.is_terminal:
            self.print(f"{name:<{column}}{text}", markup=False, soft_wrap=True)
            return
        row = Table.grid()
        if column:
            row.add_column(width=column)
        row.add_column(overflow="fold")
        row.add_row(*[name] * bool(column), Text(text))
        self.print(row)
