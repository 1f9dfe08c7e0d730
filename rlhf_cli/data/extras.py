"""What sources need that is not installed with the rest, and what rows of typed tables become."""

from __future__ import annotations

import importlib
import json
from typing import Any

from rlhf_cli.errors import EXIT_DATA, UserError


def extra(module: str, kind: str) -> Any:
    """The module; raises UserError (exit 3) that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(
            f"data={kind} needs {package}, which is not installed",
            where="data",
            fix=f"pip install 'rlhf-cli[{kind}]'",
            exit_code=EXIT_DATA,
        ) from error


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """The row as JSON would hold it: dates and bytes, which it has no type for, as text."""
    columns: dict[str, Any] = json.loads(json.dumps(row, default=str))
    return columns
