"""A record becomes a prompt row: a column or a template's text, or the messages of a chat."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from sys import intern
from typing import Any, Final

from rlhf_cli.data.files import bad_row
from rlhf_cli.data.source import Record, Source
from rlhf_cli.data.template import pieces
from rlhf_cli.types import Message, PromptRow

ROLES: Final = ("system", "user", "assistant", "tool")
MESSAGES: Final = "messages"
"""The column of whole conversations: what the assistant says last is no part of the prompt."""


def shaped(record: Record, source: Source) -> PromptRow:
    """The record's prompt, and its columns for the reward: all but a `prompt` that is the prompt as it stands.

    Raises UserError (exit 3) for a column that is not there, and for what makes no prompt.
    """
    prompt = _prompt(record, source)
    if source.system is not None:
        prompt = _with_system(prompt, source.system)
    as_it_is = source.prompt == "prompt" and source.template is None and source.first_words is None
    # names are the same in every row, and one text of each is enough
    columns = {intern(name): value for name, value in record.columns.items() if not (as_it_is and name == "prompt")}
    return PromptRow(prompt, columns, record.where)


def column(record: Record, name: str) -> Any:
    """The value of a column; raises UserError (exit 3) that names the nearest one where there is none."""
    try:
        return record.columns[name]
    except KeyError:
        near = difflib.get_close_matches(name, record.columns, n=1, cutoff=0.5)
        found = ", ".join(record.columns) or "none"
        hint = f"did you mean {near[0]}?" if near else "name one of them"
        if name == "prompt":
            hint = f"rename '{near[0]}' to prompt" if near else "name the column prompt"
            hint += ", or say which it is: data.prompt=COLUMN"
        raise bad_row(f"no column '{name}'; columns: {found}", record.where, hint) from None


def describe_type(value: Any) -> str:
    """What a value of JSON is, in words."""
    names = {
        bool: "true or false",
        type(None): "null",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "text")


def _prompt(record: Record, source: Source) -> str | tuple[Message, ...]:
    where = record.where
    if source.template is not None:
        text = "".join(
            literal + (_field(record, name, source) if name else "") for literal, name in pieces(source.template)
        )
        return _text(text, where)
    if source.prompt == "prompt" and "prompt" not in record.columns and MESSAGES in record.columns:
        return _turns(record.columns[MESSAGES], MESSAGES, where)
    value = column(record, source.prompt)
    if isinstance(value, str):
        return _text(first_words(value, source.first_words), where)
    if source.first_words is not None:
        raise bad_row(f"{source.prompt} is {describe_type(value)}", where, "data.first_words cuts texts alone")
    return _turns(value, source.prompt, where)


def _field(record: Record, name: str, source: Source) -> str:
    value = column(record, name)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise bad_row(f"{name} is {describe_type(value)}", record.where, "data.template takes texts and numbers")
    return first_words(str(value), source.first_words if name == source.prompt else None)


def first_words(text: str, count: int | None) -> str:
    """The text up to the end of its `count`th word, the white space between them as it is; None: all of it."""
    if count is None:
        return text
    words = re.match(rf"\s*(?:\S+\s+){{0,{count - 1}}}\S+", text)
    return words.group() if words else text


def _text(text: str, where: str) -> str:
    if not text.strip():
        raise bad_row("the prompt is empty", where, "remove the line or write a prompt")
    return text


def _turns(value: Any, name: str, where: str) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise bad_row(f"{name} is {describe_type(value)}", where, "give text or a list of chat messages")
    turns = tuple(_message(turn, where) for turn in value)
    if name == MESSAGES and turns and turns[-1].role == "assistant":
        turns = turns[:-1]
    if not turns:
        raise bad_row("the prompt is empty", where, "remove the line or write a message")
    return turns


def _message(turn: Any, where: str) -> Message:
    if not (isinstance(turn, Mapping) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)):
        raise bad_row(
            "a chat message without text for 'role' and 'content'", where, 'write {"role": "user", "content": "..."}'
        )
    if turn["role"] not in ROLES:
        raise bad_row(f"unknown role '{turn['role']}'", where, f"use one of {', '.join(ROLES)}")
    return Message(turn["role"], turn["content"])


def _with_system(prompt: str | tuple[Message, ...], system: str) -> tuple[Message, ...]:
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return turns if turns[0].role == "system" else (Message("system", system), *turns)
