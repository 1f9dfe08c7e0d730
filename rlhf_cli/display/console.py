"""A console on stderr that stops the run when nobody reads any more."""

from __future__ import annotations

import os

from rich.console import Console

from rlhf_cli.errors import Stopped


class StoppingConsole(Console):
    """A console whose reader may leave (`| head`, a tee that Ctrl-C ends first). Then the run stops and is saved."""

    def on_broken_pipe(self) -> None:
        """Print nothing more, and raise Stopped."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        raise Stopped("nobody reads what it says")
