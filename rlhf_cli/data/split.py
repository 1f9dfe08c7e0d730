"""Choose the held-out rows by their hash, independent of the seed and of the order of the file."""

import hashlib
import json
from collections.abc import Sequence

from rlhf_cli.types import Message, PromptRow


def set_aside(
    rows: Sequence[PromptRow], count: int, *, by_row: bool = False
) -> tuple[list[PromptRow], list[PromptRow], int]:
    """Split rows into training rows, in order, and `count` held-out rows; return also how many are neither.

    The rows whose prompts have the smallest SHA-256 are held out: adding a row displaces at most one of them. Rows with
    the same prompt stay together, so that no held-out prompt is trained on; surplus rows of such a prompt are neither.
    With `by_row`, a row counts with all its columns instead: its prompt may be that of many.
    """
    if not rows or not count:
        return list(rows), [], 0
    digests = [_digest(_json(row) if by_row else _prompt(row)) for row in rows]
    highest = sorted(digests)[min(count, len(rows)) - 1]
    aside = [number for number, digest in enumerate(digests) if digest <= highest]
    aside.sort(key=lambda number: (digests[number], _digest(_json(rows[number]))))
    train = [row for row, digest in zip(rows, digests, strict=True) if digest > highest]
    return train, [rows[number] for number in aside[:count]], len(aside[count:])


def fingerprint(rows: Sequence[PromptRow]) -> str:
    """Hash prompts and columns in their order (SHA-256): the same rows have the same fingerprint in any file."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(_json(row).encode())
    return digest.hexdigest()


def _json(row: PromptRow) -> str:
    turns = row.prompt if isinstance(row.prompt, str) else [_parts(turn) for turn in row.prompt]
    return json.dumps([turns, row.columns], sort_keys=True)


def _parts(turn: Message) -> list[str | None]:
    return [turn.role, turn.content, turn.more] if turn.more else [turn.role, turn.content]


def _prompt(row: PromptRow) -> str:
    return row.prompt if isinstance(row.prompt, str) else _json(PromptRow(row.prompt, {}, row.where))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
