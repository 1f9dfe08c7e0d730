"""A preference row: a prompt, and two completions under `a` and `b` or, as TRL names them, `chosen` and `rejected`.

A text is a string or a list of chat messages. Without a `prompt`, it is what both texts begin with (TRL's implicit
prompt): whole messages, or whole words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rlhf_cli.data.conversion import describe_type
from rlhf_cli.data.files import bad_row

NAMES: Final = (("a", "b"), ("chosen", "rejected"))
EXAMPLE: Final = 'write {"prompt": "...", "a": "...", "b": "..."}'


@dataclass(frozen=True, slots=True)
class Row:
    """One row in plain texts; a chat is written out, a turn after the other."""

    prompt: str
    a: str
    b: str
    rewards: tuple[float, float] | None

    def as_dict(self) -> dict[str, Any]:
        """The row as a file of pairs holds it."""
        texts = {"prompt": self.prompt, "a": self.a, "b": self.b}
        return texts if self.rewards is None else {**texts, "rewards": list(self.rewards)}


def read_row(columns: Mapping[str, Any], where: str) -> Row:
    """The row; raises UserError (exit 3) where a text is missing or of another type."""
    names = next((names for names in NAMES if all(name in columns for name in names)), None)
    if names is None:
        have = ", ".join(columns) or "none"
        raise bad_row(f"neither a and b nor chosen and rejected; its columns: {have}", where, EXAMPLE)
    rewards = _rewards(columns.get("rewards"), where)
    first, second = (columns[name] for name in names)
    if columns.get("prompt") is not None:
        prompt = columns["prompt"]
    else:
        prompt = _shared(first, second)
        if not prompt:
            what = f"no prompt, and {names[0]} and {names[1]} begin with nothing that both have"
            raise bad_row(what, where, "add a column prompt")
        first, second = first[len(prompt) :], second[len(prompt) :]
    text, a, b = (_text(*each, where) for each in ((prompt, "prompt"), (first, names[0]), (second, names[1])))
    return Row(text, a, b, rewards)


def _shared(first: Any, second: Any) -> Any:
    """The messages, or the words, that both texts begin with."""
    if isinstance(first, str) and isinstance(second, str):
        shared = first[: _alike(first, second)]
        return shared if first == second else shared[: max(shared.rfind(" "), shared.rfind("\n")) + 1]
    if isinstance(first, list) and isinstance(second, list):
        return first[: _alike(first, second)]
    return None


def _alike(first: Sequence[Any], second: Sequence[Any]) -> int:
    """The length of the common beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(first), len(second)))


def _text(value: Any, name: str, where: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise bad_row(f"{name} is {describe_type(value)}", where, "give text or a list of chat messages")
    return chat_text([(_part(turn, "role", name, where), _part(turn, "content", name, where)) for turn in value])


def chat_text(turns: Sequence[tuple[str, str]]) -> str:
    """The turns (role, content) as a person reads them; the content alone where there is one."""
    if len(turns) == 1:
        return turns[0][1]
    return "\n\n".join(f"{role}: {content}" for role, content in turns)


def _part(turn: Any, key: str, name: str, where: str) -> str:
    value = turn.get(key) if isinstance(turn, Mapping) else None
    if not isinstance(value, str):
        raise bad_row(f"{name} has a chat message without text for '{key}'", where, "give every message both")
    return value


def _rewards(value: Any, where: str) -> tuple[float, float] | None:
    if value is None:
        return None
    numbers = value if isinstance(value, list) else []
    finite = [float(n) for n in numbers if isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n)]
    if len(numbers) != 2 or len(finite) != 2:
        raise bad_row("rewards is not two finite numbers", where, 'write "rewards": [0.5, -1.0], or leave it out')
    return finite[0], finite[1]
