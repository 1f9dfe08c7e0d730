"""A preference row: a prompt, and two completions under `a` and `b` or, as TRL names them, `chosen` and `rejected`.

A text is a string or a list of chat messages.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rlhf_cli.data.messages import describe_type
from rlhf_cli.data.preference import CHOSEN, REJECTED, split_prompt
from rlhf_cli.errors import bad_data

NAMES: Final = (("a", "b"), (CHOSEN, REJECTED))
Turn = tuple[str, str]
"""Role and content of a chat message."""
EXAMPLE: Final = 'write {"prompt": "...", "a": "...", "b": "..."}'


@dataclass(frozen=True, slots=True)
class Row:
    """One row in plain texts; a chat is written out, a turn after the other."""

    prompt: str
    a: str
    b: str
    rewards: tuple[float, float] | None
    """The rewards of a and b, as far as they are known and of one reward."""
    turns: tuple[Turn, ...] = ()
    """The prompt's messages; empty where its text says it all."""

    def as_dict(self) -> dict[str, Any]:
        """The row as a file of pairs holds it."""
        chat = [{"role": role, "content": content} for role, content in self.turns]
        texts = {"prompt": chat or self.prompt, "a": self.a, "b": self.b}
        return texts if self.rewards is None else {**texts, "rewards": list(self.rewards)}


def read_row(columns: Mapping[str, Any], where: str) -> Row:
    """The row; raises UserError (exit 3) where a text is missing or of another type."""
    names = next((names for names in NAMES if all(name in columns for name in names)), None)
    if names is None:
        have = ", ".join(columns) or "none"
        raise bad_data(f"neither a and b nor chosen and rejected; its columns: {have}", where, EXAMPLE)
    rewards = _rewards(columns.get("rewards"), where)
    first, second = (columns[name] for name in names)
    prompt = columns.get("prompt")
    if prompt is None:
        prompt, first, second = split_prompt(first, second, names, where)
    text, a, b = (_text(*each, where) for each in ((prompt, "prompt"), (first, names[0]), (second, names[1])))
    turns = [(turn["role"], turn["content"]) for turn in prompt] if isinstance(prompt, list) else []
    return Row(text, a, b, rewards, keep_turns(turns))


def _text(value: Any, name: str, where: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise bad_data(f"{name} is {describe_type(value)}", where, "give text or a list of chat messages")
    return chat_text([(_part(turn, "role", name, where), _part(turn, "content", name, where)) for turn in value])


def chat_text(turns: Sequence[Turn]) -> str:
    """The turns (role, content) as a person reads them; the content alone where there is one."""
    if len(turns) == 1:
        return turns[0][1]
    return "\n\n".join(f"{role}: {content}" for role, content in turns)


def keep_turns(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns, or none where there is one of the user: a text prompt means the same."""
    return () if [role for role, _ in turns] == ["user"] else tuple(turns)


def _part(turn: Any, key: str, name: str, where: str) -> str:
    value = turn.get(key) if isinstance(turn, Mapping) else None
    if not isinstance(value, str):
        raise bad_data(f"{name} has a chat message without text for '{key}'", where, "give every message both")
    return value


def _rewards(value: Any, where: str) -> tuple[float, float] | None:
    if value is None:
        return None
    numbers = value if isinstance(value, list) else []
    known = [n for n in numbers if isinstance(n, int | float) and not isinstance(n, bool)]
    finite = [float(n) for n in known if abs(n) <= sys.float_info.max]  # a whole number may have any size
    if len(numbers) != 2 or len(finite) != 2:
        raise bad_data("rewards is not two finite numbers", where, 'write "rewards": [0.5, -1.0], or leave it out')
    return finite[0], finite[1]
