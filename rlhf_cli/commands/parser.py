"""Parse the options of a command; a mistake is one line, like any other mistake."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from rlhf_cli.errors import UserError


class Parser(argparse.ArgumentParser):
    """argparse with this tool's one-line errors."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError."""
        raise UserError(message, where=self.prog, fix=f"{self.prog} --help")


def at_least(least: int) -> Callable[[str], int]:
    """Return an argparse type: a whole number of at least `least`."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be {f'at least {least}' if least else '0 or more'} (got {text})")
        return int(text)

    return read
