"""Consoles whose reader may leave: on stderr this stops the run, on stdout it ends the command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
    """A console on stdout, for the results of a command. Where nobody reads them, it raises BrokenPipeError."""

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def on_broken_pipe(self) -> None:
        """Print nothing more, and raise the error; rich would exit with 1."""
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


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Let the block print copies of what files hold: it is no error if nobody reads them (`| head`)."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
