"""The columns of the data that a built-in reward reads: find a row's value, and refuse rows without a usable one."""

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from rlhf_cli.data.messages import describe_type
from rlhf_cli.errors import bad_data
from rlhf_cli.plural import plural
from rlhf_cli.rewards.kinds import SingleSource
from rlhf_cli.rewards.kinds.base import IsolatedSource
from rlhf_cli.rewards.kinds.weighted import Weighted
from rlhf_cli.types import PromptRow

THOROUGH_S: Final = 20.0
"""Seconds for reading right answers before a run: thousands of formulas, or some hundred thousand fractions."""


def column_value(columns: Mapping[str, Any], name: str) -> Any:
    """Return the value of a column, or of a field in it (`reward_model.ground_truth`); None where there is none.

    A list with a single value counts as that value.
    """
    value: Any = columns
    if name in columns:
        value = columns[name]
    else:
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def has_column(columns: Iterable[str], name: str) -> bool:
    """Whether the data has the column `name`, or for COLUMN.FIELD the column."""
    return not {name, name.partition(".")[0]}.isdisjoint(columns)


def check_rows(source: SingleSource | Weighted, rows: Iterable[PromptRow], key: str = "reward") -> None:
    """Raise UserError (exit 3) for the first row whose columns the reward cannot read.

    `key` is where the reward's settings stand. Under on_error=mask a row may lack its right answer: it has no score. A
    list or an object is refused even then. After THOROUGH_S seconds the rest of the rows is checked quickly: what is
    found out later ends the run at the row, with the same reason.
    """
    rows = list(rows)
    if isinstance(source, Weighted):
        for name, part in source.parts.items():
            check_rows(part, rows, f"{key}.parts.{name}")
        return
    is_masked = isinstance(source, IsolatedSource) and source.on_error == "mask"
    known = {name for row in rows for name in row.columns}
    for name in source.needs:
        if not has_column(known, name):
            continue  # the settings name a wrong column: RetryingSource.open refuses that in better words
        until = time.monotonic() + THOROUGH_S
        for row in rows:
            value = column_value(row.columns, name)
            if isinstance(value, Mapping | list):
                raise _not_one(source, name, value, row.where, key)
            if not is_masked and (wrong := explain_value(source, name, row, quick=time.monotonic() > until)):
                fix = f"mend the row, or leave such prompts out: {key}.on_error=mask"
                raise bad_data(f"{wrong}, so that {key}={source.kind} has no score", row.where, fix)


def explain_value(source: SingleSource, name: str, row: PromptRow, *, quick: bool = False) -> str | None:
    """Say why the row's value in the column `name` is unusable: `answer 'so' is ...`; None where it is not."""
    value = column_value(row.columns, name)
    wrong = source.wrong_value(value, quick=quick)
    if wrong is None:
        return None
    return f"{name} {wrong}" if value is None else f"{name} {value!r:.80} {wrong}"


def _not_one(source: SingleSource, name: str, value: Mapping[str, Any] | list[Any], where: str, key: str) -> Exception:
    if isinstance(value, list):
        return bad_data(f"{name} is a list of {plural(len(value), 'value')}", where, "give each row one value")
    fields = ", ".join(value) or "nothing"
    has_setting = "column" in type(source).model_fields
    fix = f"name a field of it: {key}.column={name}.{next(iter(value), 'FIELD')}" if has_setting else "give a text"
    return bad_data(f"{name} is {describe_type(value)} with {fields}", where, fix)
