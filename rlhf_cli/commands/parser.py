"""What the verbs with plain options share."""

from __future__ import annotations

import argparse
from typing import NoReturn

from rlhf_cli.errors import EXIT_USAGE, UserError


class Parser(argparse.ArgumentParser):
    """argparse with this tool's one-line errors."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError."""
        raise UserError(message, where=self.prog, fix=f"{self.prog} --help", exit_code=EXIT_USAGE)
