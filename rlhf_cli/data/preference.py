"""Preferences: a prompt with a chosen and a rejected completion, as TRL writes them.

A completion is a text, or a list of chat messages. Without a prompt, it is what both completions begin with (TRL's
implicit prompt): whole messages, or whole words, without the white space behind them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rlhf_cli.data.messages import describe_type, read_message
from rlhf_cli.errors import bad_data
from rlhf_cli.types import Message, PromptRow

CHOSEN: Final = "chosen"
REJECTED: Final = "rejected"
SHARE: Final = "share"
"""The column with the share of votes for the chosen completion."""
MARGIN: Final = "margin"
"""The column with the least difference of scores that the chosen completion deserves."""
EXPORT: Final = "for the votes on pairs, as rows to train on: rlhf label PAIRS.jsonl --export ROWS.jsonl"
LARGEST: Final = 1e6
"""The largest margin: far beyond any score, and finite in every precision."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """The completions of a prompt that a row teaches: one to imitate, or a chosen and a rejected one."""

    texts: tuple[str, ...]
    share: float = 1.0
    """In [0, 1]: the share of votes for the first completion; 0.5 is a tie."""
    margin: float = 0.0
    """At least 0: the first completion is better by so much (Llama 2, arXiv:2307.09288, equation 2)."""


def read_preference(row: PromptRow, chosen: str = CHOSEN, rejected: str = REJECTED) -> Lesson:
    """The completions under two columns of a row; raises UserError (exit 3) for values that are no preference."""
    share = _number(row, SHARE, 1.0)
    if not 0 <= share <= 1:
        raise bad_data(f"{SHARE} is {share:g}", row.where, "give the share of votes for the chosen text, from 0 to 1")
    margin = _number(row, MARGIN, 0.0)
    if not 0 <= margin <= LARGEST:
        raise bad_data(f"{MARGIN} is {margin:g}", row.where, f"give a number from 0 to {LARGEST:,.0f}, or leave it out")
    first, second = completion_text(row, chosen), completion_text(row, rejected)
    if first == second and share != 0.5:
        fix = f'remove the row, or call it a tie: "{SHARE}": 0.5'
        raise bad_data(f"{chosen} and {rejected} are the same", row.where, fix)
    return Lesson((first, second), share, margin)


def completion_text(row: PromptRow, name: str) -> str:
    """The completion in a column: a text, or the assistant's message behind the prompt.

    A conversation that repeats the prompt's messages counts from behind them. Raises UserError (exit 3) for a missing
    column, other values, and an empty text.
    """
    if name not in row.columns:
        have = ", ".join(row.columns) or "none but the prompt"
        fix = EXPORT if {"a", "b"} <= row.columns.keys() else "name the column with the completion"
        raise bad_data(f"no column '{name}'; columns: {have}", row.where, fix)
    value = row.columns[name]
    if isinstance(value, list):
        value = _answer([read_message(turn, row.where) for turn in value], row, name)
    elif not isinstance(value, str):
        raise bad_data(f"{name} is {describe_type(value)}", row.where, "give text or a list of chat messages")
    if not value.strip():
        raise bad_data(f"{name} is empty", row.where, "remove the row or write a text")
    return str(value)


def _answer(turns: Sequence[Message], row: PromptRow, name: str) -> str:
    """The content of the assistant's message behind the prompt."""
    prompt = (Message("user", row.prompt),) if isinstance(row.prompt, str) else row.prompt
    if _without_system(turns[:-1]) == _without_system(prompt):
        turns = turns[-1:]
    if [turn.role for turn in turns] != ["assistant"]:
        roles = ", ".join(turn.role for turn in turns) or "none"
        what = f"{name} has other messages behind the prompt than the assistant's one: {roles}"
        raise bad_data(what, row.where, "give the assistant's last message alone")
    if turns[0].content is None or turns[0].more:
        raise bad_data(f"{name} has keys besides role and content", row.where, "give text, which is all that is read")
    return turns[0].content


def _without_system(turns: Sequence[Message]) -> list[Message]:
    return [turn for turn in turns if turn.role != "system"]


def _number(row: PromptRow, name: str, default: float) -> float:
    """The number in a column, also as text; the default where there is none."""
    value = row.columns.get(name)
    if value is None or value == "":
        return default
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return float(value)
    except OverflowError:  # a whole number that no float holds
        return math.inf
    except ValueError:
        pass
    raise bad_data(f"{name} is {describe_type(value)}", row.where, "give a number, or leave it out")


def split_prompt(first: Any, second: Any, names: tuple[str, str], where: str) -> tuple[Any, Any, Any]:
    """Split what two completions begin with from them: the prompt, and the rest of each.

    Raises UserError (exit 3) where they begin with no message, or no word, that both have.
    """
    prompt: Any = None
    if isinstance(first, str) and isinstance(second, str):
        prompt = _shared_words(first, second)
    elif isinstance(first, list) and isinstance(second, list):
        prompt = first[: _alike(first, second)]
    for value, name in ((first, names[0]), (second, names[1])):
        if not isinstance(value, str | list):
            raise bad_data(f"{name} is {describe_type(value)}", where, "give text or a list of chat messages")
    if not prompt:
        what = f"no prompt, and {names[0]} and {names[1]} begin with nothing that both have"
        raise bad_data(what, where, "add a column prompt")
    return prompt, first[len(prompt) :], second[len(prompt) :]


def _shared_words(first: str, second: str) -> str:
    """The words that both texts begin with; white space belongs to the word that follows it, as in tokenizers."""
    shared = first[: _alike(first, second)]
    if first == second:
        return shared
    last_space = max((place for place, letter in enumerate(shared) if letter.isspace()), default=0)
    return shared[:last_space].rstrip()


def _alike(first: Sequence[Any], second: Sequence[Any]) -> int:
    """The length of the common beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(first), len(second)))
