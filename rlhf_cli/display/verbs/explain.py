"""Print settings: their values and what sets them, or one after the other with their meanings."""

import textwrap
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.errors import visible
from rlhf_cli.settings import as_text

LONGEST: Final = 24
"""Characters of a value to which the others are aligned."""


class Setting(NamedTuple):
    """One setting of a composed config."""

    key: str
    value: Any
    set_by: str
    """An argument, or a file and line."""
    rule: str
    """Its type and range, in words."""
    meaning: str


def show_settings(settings: Sequence[Setting], *, with_meanings: bool) -> None:
    """Print a table, or a paragraph a setting."""
    console = ResultConsole()
    rows = [(setting.key, visible(as_text(setting.value)), visible(setting.set_by)) for setting in settings]
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    for setting, (key, value, set_by) in zip(settings, rows, strict=True):
        lines = [f"{key:{first}}  {value:{min(second, LONGEST)}}  {set_by}"]
        if with_meanings:
            lines = [
                f"{key} = {value}",
                f"  set by   {set_by}",
                f"  takes    {setting.rule}",
                *textwrap.wrap(setting.meaning, 79, initial_indent="  means    ", subsequent_indent="           "),
            ]
        console.print("\n".join(lines), soft_wrap=True)
