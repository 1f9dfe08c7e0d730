"""Read the rows of a source, leave out those that its settings exclude, and count these by reason."""

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from rlhf_cli.credentials import kind_of_key
from rlhf_cli.data.conversion import to_prompt_row, unwanted_column
from rlhf_cli.data.source import PromptSource, is_any_of, spellings
from rlhf_cli.errors import bad_data
from rlhf_cli.types import Message, PromptRow

_SHOWN: Final = 3
"""The number of excluded values that the error of a filter names."""
_MOST: Final = 1000
"""The most excluded rows that are counted for that error."""


@dataclass(slots=True)
class UsedRows:
    """The rows of a source that are used."""

    rows: list[PromptRow] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason -> number of rows."""
    more: bool = False
    """Whether rows follow that were not read."""
    unmet: list[str] = field(default_factory=list)
    """Values of `data.where`, one of several each, that no row has: `level: 9`; empty where rows follow."""


def read_source(
    source: PromptSource, *, held_out: bool = False, limit: int | None = None, searched: Collection[str] | None = ()
) -> UsedRows:
    """Read the rows until `limit` of them are used (None: all), and look whether one more follows.

    `searched` are the columns that must hold no key, as the prompt must not (None: all); COLUMN.FIELD means COLUMN.
    Raises UserError (exit 3) for a mistake in these rows, and where `data.where` leaves no training row.
    """
    used, seen, unwanted = UsedRows(), set[str | tuple[Message, ...]](), Counter[str]()
    filters = {} if source.shares_prompts else source.where  # such a source has left them out itself
    wanted = {name: spellings(values) for name, values in filters.items()}
    unmet = [(name, one) for name, values in filters.items() if isinstance(values, tuple) for one in values]
    raw_rows = source.raw_rows(held_out=held_out)
    for raw in raw_rows:
        if raw.left_out is not None:
            used.left_out[raw.left_out] += 1
            continue
        unmet = [(name, one) for name, one in unmet if not is_any_of(raw.columns.get(name), spellings(one))]
        if (name := unwanted_column(raw, wanted)) is not None:
            used.left_out["by data.where"] += 1
            if len(unwanted) < _MOST:
                unwanted[f"{name}: {json.dumps(raw.columns[name], ensure_ascii=False):.40}"] += 1
            continue
        row = to_prompt_row(raw, source)
        if source.secrets != "keep" and (found := _find_key(row, searched)):
            if source.secrets == "error":
                raise bad_data(found, row.where, "remove it, or leave such rows out: data.secrets=drop (or =keep them)")
            used.left_out["with a secret"] += 1
            continue
        if source.dedup and not source.shares_prompts:
            if row.prompt in seen:
                used.left_out["by data.dedup"] += 1
                continue
            seen.add(row.prompt)
        used.rows.append(row)
        if len(used.rows) == limit:
            used.more = next(raw_rows, None) is not None
            break
    if not used.more:
        used.unmet = [f"{name}: {json.dumps(one, ensure_ascii=False)}" for name, one in unmet]
    if unwanted and not (used.rows or held_out):
        raise bad_data(
            f"data.where leaves none of {used.left_out.total()} rows; they have "
            + ", ".join(f"{value} ({count})" for value, count in unwanted.most_common(_SHOWN)),
            source.place(held_out=False),
            "write the value as the column has it; a text that looks like a number needs quotes",
        )
    return used


def _find_key(row: PromptRow, searched: Collection[str] | None) -> str | None:
    """Say what holds a key, and which: the prompt, tools that the chat's template writes into it, or a column."""
    turns = [row.prompt] if isinstance(row.prompt, str) else [f"{turn.content}\n{turn.more}" for turn in row.prompt]
    tools = [json.dumps(row.columns["tools"])] if row.columns.get("tools") else []
    if kind := next(filter(None, map(kind_of_key, [*turns, *tools])), None):
        return f"the prompt holds what looks like {kind}, and samples and reports show prompts"
    fields = row.columns if searched is None else searched
    for name in (name if name in row.columns else name.partition(".")[0] for name in fields):
        value = row.columns.get(name)
        text = value if isinstance(value, str) else json.dumps(value) if isinstance(value, dict | list) else ""
        if kind := kind_of_key(text):
            return f"the column {name} holds what looks like {kind}, and the run reads it"
    return None
