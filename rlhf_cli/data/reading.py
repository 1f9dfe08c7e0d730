"""Read the rows of a source that are used, and count the others by reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rlhf_cli.data.conversion import column_value, to_prompt_row
from rlhf_cli.data.source import PromptSource, RawRow
from rlhf_cli.types import Message, PromptRow


@dataclass(slots=True)
class UsedRows:
    """The rows of a source that are used."""

    rows: list[PromptRow] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason -> number of rows."""
    more: bool = False
    """Whether there are further rows, which were not read."""


def read_source(source: PromptSource, *, held_out: bool = False, limit: int | None = None) -> UsedRows:
    """Read the first `limit` rows that are used (None: all) and nothing beyond them.

    Raises UserError (exit 3) for a mistake in these rows.
    """
    used, seen = UsedRows(), set[str | tuple[Message, ...]]()
    wanted = {name: _values_of(values) for name, values in source.where.items()}
    raw_rows = source.raw_rows(held_out=held_out)
    for raw in raw_rows:
        if not _is_wanted(raw, wanted):
            used.left_out["by data.where"] += 1
            continue
        row = to_prompt_row(raw, source)
        if source.dedup:
            if row.prompt in seen:
                used.left_out["by data.dedup"] += 1
                continue
            seen.add(row.prompt)
        used.rows.append(row)
        if len(used.rows) == limit:
            used.more = next(raw_rows, None) is not None
            break
    return used


def _values_of(values: Any) -> list[Any]:
    """The values of a filter, and their spelling in a file that holds only text."""
    each = values if isinstance(values, tuple) else (values,)
    return [*each, *(json.dumps(value) for value in each if not isinstance(value, str))]


def _is_wanted(raw: RawRow, wanted: dict[str, list[Any]]) -> bool:
    return all(_is_any_of(column_value(raw, name), values) for name, values in wanted.items())


def _is_any_of(value: Any, values: Iterable[Any]) -> bool:
    """Whether `values` contain the value; true equals 1 in Python but not in JSON."""
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values)
