"""Parse the options of a command; a mistake is one line, like any other mistake."""

import argparse
import difflib
import math
from collections.abc import Callable
from typing import Any, Final, NoReturn

from rlhf_cli.errors import UserError

MOST_DIGITS: Final = 300
"""Digits of a whole number on the command line: with more it is no number that a float holds."""


class Parser(argparse.ArgumentParser):
    """argparse with this tool's one-line errors; a help of several lines is printed as it stands."""

    def __init__(self, *, description: str | None = None, epilog: str | None = None, **options: Any) -> None:
        if "\n" in f"{description}{epilog}":
            options["formatter_class"] = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, epilog=epilog, **options)

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        """Add an argument; unless it has a type of its own, an empty text is refused: a path would mean this folder."""
        if not {"type", "action", "choices"} & options.keys():
            options["type"] = _not_empty
        return super().add_argument(*names, **options)

    def add_overrides(self, about: str = "as for rlhf train: preset, YAML, settings") -> None:
        """Add the overrides of a config, as `rlhf train` takes them."""
        # with a default, since argparse names it among what is missing otherwise
        self.add_argument("overrides", metavar="KEY=VALUE", nargs="*", default=[], help=about)

    def error(self, message: str) -> NoReturn:
        """Raise UserError; for an option that is nearly one of these, say which."""
        unknown = next(iter(message.removeprefix("unrecognized arguments: ").split()), "")  # none for an empty argument
        near = difflib.get_close_matches(unknown, [option for option in self._option_string_actions if len(option) > 2])
        fix = f"did you mean {near[0]}?" if unknown.startswith("--") and near else f"{self.prog} --help"
        raise UserError(message, where=self.prog, fix=fix)


def _not_empty(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def at_least(least: int, most: float = math.inf) -> Callable[[str], int]:
    """Return an argparse type: a whole number of at least `least`, and `most` at most."""
    allowed = f"at least {least}" if least else "0 or more"
    if most < math.inf:
        allowed = f"{least} to {most:g}"

    def read(text: str) -> int:
        if len(text) > MOST_DIGITS:
            raise argparse.ArgumentTypeError(f"must be {allowed} (got {len(text):,} characters)")
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be {allowed} (got {text})")
        return int(text)

    return read


def number(least: float, most: float = math.inf) -> Callable[[str], float]:
    """Return an argparse type: a finite number from `least` to `most`."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (least <= value <= most and math.isfinite(value)):
            raise argparse.ArgumentTypeError(
                f"must be {least:g} {'or more' if most == math.inf else f'to {most:g}'} (got {text})"
            )
        return value

    return read


def temperature(text: str) -> float:
    """An argparse type: 0 for greedy decoding, or a temperature that logits can be divided by."""
    from rlhf_cli.schema import COLDEST  # most commands read no settings

    value = number(0)(text)
    if 0 < value < COLDEST:
        raise argparse.ArgumentTypeError(f"must be 0, for greedy decoding, or {COLDEST:g} or more (got {text})")
    return value
