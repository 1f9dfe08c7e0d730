"""Which rows are held out, by their hash: whatever the seed, whatever the order of the file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from rlhf_cli.types import PromptRow


def set_aside(rows: Sequence[PromptRow], count: int) -> tuple[list[PromptRow], list[PromptRow], int]:
    """The rows to train on, in order; `count` held-out ones; and how many of the same prompts are neither.

    Held out are the rows whose prompts have the smallest SHA-256: another row elsewhere displaces one of them at most.
    Rows of one prompt stand together, so that no held-out prompt is trained on; those too many are left out.
    """
    if not rows or not count:
        return list(rows), [], 0
    digests = [_digest(_prompt(row)) for row in rows]
    highest = sorted(digests)[min(count, len(rows)) - 1]
    aside = [number for number, digest in enumerate(digests) if digest <= highest]
    aside.sort(key=lambda number: (digests[number], _digest(_json(rows[number]))))
    train = [row for row, digest in zip(rows, digests, strict=True) if digest > highest]
    return train, [rows[number] for number in aside[:count]], len(aside[count:])


def fingerprint(rows: Sequence[PromptRow]) -> str:
    """SHA-256 over prompts and columns, in order: two files with the same rows are the same data."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(_json(row).encode())
    return digest.hexdigest()


def _json(row: PromptRow) -> str:
    turns = row.prompt if isinstance(row.prompt, str) else [[turn.role, turn.content] for turn in row.prompt]
    return json.dumps([turns, row.columns], sort_keys=True)


def _prompt(row: PromptRow) -> str:
    return row.prompt if isinstance(row.prompt, str) else _json(PromptRow(row.prompt, {}, row.where))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
