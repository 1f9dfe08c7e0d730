"""The rows of a source that are used, and how many are not, and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rlhf_cli.data.conversion import column, shaped
from rlhf_cli.data.source import Record, Source
from rlhf_cli.types import Message, PromptRow


@dataclass(slots=True)
class Found:
    """What was read."""

    rows: list[PromptRow] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """Why -> how many."""
    more: bool = False
    """Whether there are further rows, which nobody looked at."""


def read(source: Source, *, held_out: bool = False, limit: int | None = None) -> Found:
    """The first `limit` rows that are used (None: all); nothing behind them is looked at.

    Raises UserError (exit 3) for anything wrong in the rows up to there.
    """
    found, seen = Found(), set[str | tuple[Message, ...]]()
    wanted = {name: _allowed(values) for name, values in source.where.items()}
    records = source.records(held_out=held_out)
    for record in records:
        if not _wanted(record, wanted):
            found.left_out["by data.where"] += 1
            continue
        row = shaped(record, source)
        if source.dedup:
            if row.prompt in seen:
                found.left_out["by data.dedup"] += 1
                continue
            seen.add(row.prompt)
        found.rows.append(row)
        if len(found.rows) == limit:
            found.more = next(records, None) is not None
            break
    return found


def _allowed(values: Any) -> list[Any]:
    """The values of a filter, and what they are in a file that holds texts alone."""
    each = values if isinstance(values, tuple) else (values,)
    return [*each, *(json.dumps(value) for value in each if not isinstance(value, str))]


def _wanted(record: Record, wanted: dict[str, list[Any]]) -> bool:
    return all(_is_one(column(record, name), values) for name, values in wanted.items())


def _is_one(value: Any, values: Iterable[Any]) -> bool:
    """Whether the value is one of them; to Python true is 1, to JSON it is not."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in values)
