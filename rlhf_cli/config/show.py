"""Print what hydra can tell: help, the composed config, where it comes from, and the scripts and words of completion.

`hydra.main` would parse `sys.argv` again; the object behind hydra's own `compose` prints the same without that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rlhf_cli.config.session import PRIMARY, one_line_errors, open_hydra


@contextmanager
def _printer() -> Iterator[Any]:
    with open_hydra() as opened, one_line_errors():
        yield opened.hydra


def show_help() -> None:
    """Print the page of `rlhf train --help`."""
    with _printer() as printer:
        printer.app_help(PRIMARY, _flags(), argparse.Namespace(overrides=[], resolve=False))


def show_hydra_help() -> None:
    """Print hydra's own page of help."""
    with _printer() as printer:
        printer.hydra_help(PRIMARY, _flags(), argparse.Namespace(overrides=[]))


def _flags() -> argparse.ArgumentParser:
    """What hydra's page says of flags; those of hydra's own parser, which we do not offer, stay out."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("overrides", help="KEY=VALUE; for the options see rlhf train --help")
    return parser


def show_info(topic: str, overrides: Sequence[str]) -> None:
    """Print how the config is put together."""
    with _printer() as printer:
        printer.show_info(topic, PRIMARY, list(overrides))


def show_config(part: str, overrides: Sequence[str], *, resolve: bool) -> None:
    """Print the composed config as YAML: `job`, `hydra` or `all`."""
    with _printer() as printer:
        printer.show_cfg(PRIMARY, list(overrides), part, None, resolve)


def show_completion(arguments: Sequence[str]) -> None:
    """Print a shell's script, or the words that may follow; hydra's scripts take the command's name from `sys.argv`."""
    before = sys.argv
    sys.argv = ["rlhf", *arguments]
    try:
        with _printer() as printer:
            printer.shell_completion(PRIMARY, list(arguments))
    finally:
        sys.argv = before
