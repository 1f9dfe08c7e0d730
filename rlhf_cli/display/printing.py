"""Print a JSON object on stdout, or a note on stderr."""

import json
import sys
from collections.abc import Callable
from typing import Any

from rlhf_cli.errors import visible
from rlhf_cli.runs.json_files import finite


def print_json(value: Any, *, indent: int | None = None) -> None:
    """Print the value as JSON: null for numbers that JSON lacks, escapes where stdout cannot encode every character."""
    takes_all = (sys.stdout.encoding or "").lower().startswith("utf")
    sys.stdout.write(f"{json.dumps(finite(value), ensure_ascii=not takes_all, indent=indent)}\n")
    sys.stdout.flush()


def print_result(value: Any, show: Callable[[], None], *, as_json: bool, indent: int | None = 2) -> None:
    """Print the value as JSON, or else call `show`, which prints it for people."""
    if as_json:
        print_json(value, indent=indent)
    else:
        show()


def print_note(text: str) -> None:
    """Print a note, one line."""
    sys.stderr.write(f"note: {visible(text)}\n")
