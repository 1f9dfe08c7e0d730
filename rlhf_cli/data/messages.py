"""Messages of a chat, as rows hold them."""

import json
from collections.abc import Mapping
from typing import Any, Final

from rlhf_cli.errors import bad_data
from rlhf_cli.types import Message

ROLES: Final = ("system", "user", "assistant", "tool")


def read_message(turn: Any, where: str) -> Message:
    """Read one turn; raises UserError (exit 3) where it is none."""
    keys = turn if isinstance(turn, Mapping) else {}
    role, content = keys.get("role"), keys.get("content")
    if isinstance(content, list):
        content = _join(content, where)
    # tables fill the keys that a turn lacks with null
    more = {key: value for key, value in keys.items() if key not in ("role", "content") and value is not None}
    if not isinstance(role, str) or not (isinstance(content, str) or (content is None and more)):
        raise bad_data(
            "a chat message without text for 'role' and 'content'", where, 'write {"role": "user", "content": "..."}'
        )
    if role not in ROLES:
        raise bad_data(f"unknown role '{role}'", where, f"use one of {', '.join(ROLES)}")
    return Message(role, content, json.dumps(more, ensure_ascii=False) if more else "")


def _join(parts: list[Any], where: str) -> str:
    """Join a content that is a list of parts, `[{"type": "text", "text": "..."}]`; refuse parts of other types."""
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
        if not isinstance(text, str):
            kind = part.get("type", "none") if isinstance(part, Mapping) else describe_type(part)
            raise bad_data(f"a chat message with a part of type {kind}", where, "give text, which is all that is read")
        texts.append(text)
    return "".join(texts)


def describe_type(value: Any) -> str:
    """Name the type of a JSON value in words."""
    names = {
        bool: "true or false",
        type(None): "null",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "text")
