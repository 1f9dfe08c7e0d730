"""Reading prompt files. Every mistake is named by file and line, before any model is loaded."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.paths import locate
from rlhf_cli.types import Message, PromptRow

ROLES = ("system", "user", "assistant", "tool")


def read_prompts(path: str) -> list[PromptRow]:
    """The rows of a jsonl file; blank lines are skipped.

    Raises UserError (exit 3) for a missing or empty file, a line that is not a JSON object, and a row without a usable
    `prompt`: text, or a list of chat messages `{"role": ..., "content": ...}`.
    """
    file = locate(path)
    if file is None or not file.is_file():
        raise UserError("no such prompt file", where=path, fix="give a jsonl file by data.path=", exit_code=EXIT_DATA)
    rows = []
    try:
        with file.open(encoding="utf-8-sig", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    rows.append(_row(line.rstrip("\r\n"), f"{file.name}:{number}"))
    except UnicodeDecodeError as error:
        raise UserError(
            f"not UTF-8 text: {error.reason} at byte {error.start}",
            where=file.name,
            fix="save it as UTF-8",
            exit_code=EXIT_DATA,
        ) from error
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(file), exit_code=EXIT_DATA) from error
    if not rows:
        raise UserError("the prompt file is empty", where=str(file), fix="one JSON object a line", exit_code=EXIT_DATA)
    return rows


def fingerprint(rows: Sequence[PromptRow]) -> str:
    """SHA-256 over prompts and columns, in order: two files with the same rows are the same data."""
    digest = hashlib.sha256()
    for row in rows:
        turns = row.prompt if isinstance(row.prompt, str) else [[m.role, m.content] for m in row.prompt]
        digest.update(json.dumps([turns, dict(row.columns)], sort_keys=True).encode())
    return digest.hexdigest()


def _row(line: str, where: str) -> PromptRow:
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise _bad(f"not JSON: {error.msg} at column {error.colno}", where, "one JSON object a line") from error
    except UnicodeEncodeError as error:
        raise _bad("half of a surrogate pair, which is no text", where, "save it as UTF-8") from error
    except (RecursionError, ValueError) as error:  # nested too deeply; a number of thousands of digits
        raise _bad(f"JSON that cannot be read: {error}", where, "one plain JSON object a line") from error
    if not isinstance(row, dict):
        raise _bad(f"not a JSON object but {_kind(row)}", where, 'write {"prompt": "..."}')
    if "prompt" not in row:
        near = difflib.get_close_matches("prompt", row, n=1, cutoff=0.5)
        found = ", ".join(row) or "none"
        hint = f"rename '{near[0]}' to prompt" if near else "name the column prompt"
        raise _bad(f"no column 'prompt'; columns: {found}", where, hint)
    columns = {key: value for key, value in row.items() if key != "prompt"}
    return PromptRow(_prompt(row["prompt"], where), columns, where)


def _prompt(value: Any, where: str) -> str | tuple[Message, ...]:
    if isinstance(value, str):
        if not value.strip():
            raise _bad("the prompt is empty", where, "remove the line or write a prompt")
        return value
    if not isinstance(value, list):
        raise _bad(f"prompt is {_kind(value)}", where, "give text or a list of chat messages")
    if not value:
        raise _bad("the prompt is empty", where, "remove the line or write a message")
    return tuple(_message(turn, where) for turn in value)


def _message(turn: Any, where: str) -> Message:
    if not (isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)):
        raise _bad(
            "a chat message without text for 'role' and 'content'", where, 'write {"role": "user", "content": "..."}'
        )
    if turn["role"] not in ROLES:
        raise _bad(f"unknown role '{turn['role']}'", where, f"use one of {', '.join(ROLES)}")
    return Message(turn["role"], turn["content"])


def _kind(value: Any) -> str:
    names = {
        bool: "true or false",
        type(None): "null",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "text")


def _bad(what: str, where: str, fix: str) -> UserError:
    return UserError(what, where=where, fix=fix, exit_code=EXIT_DATA)
