"""The optional libraries of sources, and the conversion of their typed rows."""

from __future__ import annotations

import importlib
import json
from typing import Any

from rlhf_cli.errors import EXIT_DATA, UserError


def import_extra(module: str, kind: str) -> Any:
    """Import a module; raises UserError (exit 3) with the way to install it."""
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


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """Convert a row to JSON's types: dates and bytes become text."""
    columns: dict[str, Any] = json.loads(json.dumps(row, default=str))
    return columns
