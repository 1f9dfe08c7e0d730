"""Convert a raw row into a prompt row: from a column, a template, a chat, or what two completions begin with."""

import difflib
import re
from collections.abc import Iterable, Mapping
from sys import intern
from typing import Any, Final

from rlhf_cli.data.messages import describe_type, read_message
from rlhf_cli.data.preference import CHOSEN, EXPORT, REJECTED, split_prompt
from rlhf_cli.data.source import PromptSource, RawRow, is_any_of
from rlhf_cli.data.template import column_names, parse_template
from rlhf_cli.errors import bad_data
from rlhf_cli.types import Message, PromptRow

MESSAGES: Final = "messages"
"""The column of whole conversations: the assistant's last message is not part of the prompt."""


def to_prompt_row(raw: RawRow, source: PromptSource) -> PromptRow:
    """Build the prompt, and keep all columns for the reward, except a `prompt` column that is the whole prompt.

    Raises UserError (exit 3) for a missing column and for values that make no prompt.
    """
    raw = _with_prompt(raw, source)
    prompt = _prompt(raw, source)
    if source.system is not None:
        prompt = _add_system(prompt, source.system)
    is_plain = source.prompt == "prompt" and source.template is None and source.first_words is None
    # names are the same in every row: one string of each is enough
    columns = {intern(name): value for name, value in raw.columns.items() if not (is_plain and name == "prompt")}
    return PromptRow(prompt, columns, raw.where)


def read_column(raw: RawRow, name: str) -> Any:
    """Return the value of a column; raises UserError (exit 3), with the nearest name, where it is missing."""
    try:
        return raw.columns[name]
    except KeyError:
        near = difflib.get_close_matches(name, raw.columns, cutoff=0.5)
        columns = ", ".join(raw.columns) or "none"
        hint = f"did you mean {near[0]}?" if near else "name one of them"
        if name == "prompt":
            hint = f"rename '{near[0]}' to prompt" if near else "name the column prompt"
            hint += ", or say which it is: data.prompt=COLUMN"
            hint += "; texts with labels are data=labelled" if "label" in raw.columns else ""
            hint = EXPORT if {"rater", "vote"} <= raw.columns.keys() else hint
        raise bad_data(f"no column '{name}'; columns: {columns}", raw.where, hint) from None


def unwanted_column(raw: RawRow, wanted: Mapping[str, Iterable[Any]]) -> str | None:
    """The first column with none of its `wanted` values, or None; raises UserError as `read_column` does."""
    return next((name for name, values in wanted.items() if not is_any_of(read_column(raw, name), values)), None)


def _with_prompt(raw: RawRow, source: PromptSource) -> RawRow:
    """Take the prompt out of a chosen and a rejected text, where it stands in them alone and is wanted."""
    columns = raw.columns
    is_wanted = source.prompt == "prompt" and (source.template is None or "prompt" in column_names(source.template))
    has_prompt = columns.get("prompt") is not None or MESSAGES in columns
    if has_prompt or not is_wanted or not {CHOSEN, REJECTED} <= columns.keys():
        return raw
    prompt, chosen, rejected = split_prompt(columns[CHOSEN], columns[REJECTED], (CHOSEN, REJECTED), raw.where)
    return RawRow({**columns, "prompt": prompt, CHOSEN: chosen, REJECTED: rejected}, raw.where)


def _prompt(raw: RawRow, source: PromptSource) -> str | tuple[Message, ...]:
    where = raw.where
    if source.template is not None:
        text = "".join(
            literal + (_field(raw, name, source) if name else "") for literal, name in parse_template(source.template)
        )
        return _text(text, where)
    if source.prompt == "prompt" and "prompt" not in raw.columns and MESSAGES in raw.columns:
        return _turns(raw.columns[MESSAGES], MESSAGES, where)
    value = read_column(raw, source.prompt)
    if isinstance(value, str):
        return _text(keep_first_words(value, source.first_words), where)
    if source.first_words is not None:
        raise bad_data(f"{source.prompt} is {describe_type(value)}", where, "data.first_words cuts texts alone")
    return _turns(value, source.prompt, where)


def _field(raw: RawRow, name: str, source: PromptSource) -> str:
    value = read_column(raw, name)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise bad_data(f"{name} is {describe_type(value)}", raw.where, "data.template takes texts and numbers")
    return keep_first_words(str(value), source.first_words if name == source.prompt else None)


def keep_first_words(text: str, count: int | None) -> str:
    """Cut the text after its `count`th word, white space unchanged; None: keep all of it."""
    if count is None or not text:
        return text
    words = re.match(rf"\s*(?:\S+\s+){{0,{min(count, len(text)) - 1}}}\S+", text)
    return words.group() if words else text


def _text(text: str, where: str) -> str:
    if not text.strip():
        raise bad_data("the prompt is empty", where, "remove the line or write a prompt")
    return text


def _turns(value: Any, name: str, where: str) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise bad_data(f"{name} is {describe_type(value)}", where, "give text or a list of chat messages")
    turns = tuple(read_message(turn, where) for turn in value)
    if name == MESSAGES and turns and turns[-1].role == "assistant":
        turns = turns[:-1]
    if not any((turn.content or "").strip() or turn.more for turn in turns):
        raise bad_data("the prompt is empty", where, "remove the line or write a message")
    return turns


def _add_system(prompt: str | tuple[Message, ...], system: str) -> tuple[Message, ...]:
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return turns if turns[0].role == "system" else (Message("system", system), *turns)
