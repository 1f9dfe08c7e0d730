"""Consoles whose reader may leave: on stderr this stops the run, on stdout it ends the command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

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


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Let the block print copies of what files hold: it is no error if nobody reads them (`| head`)."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
