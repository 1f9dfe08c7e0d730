"""A prompt with two completions, and the jsonl file that holds such pairs."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf_cli.data.files import file_errors
from rlhf_cli.data.jsonl import read_jsonl
from rlhf_cli.errors import bad_data
from rlhf_cli.feedback.preference import EXAMPLE, Row, read_row
from rlhf_cli.paths import why_irregular
from rlhf_cli.runs.disk import DISK


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair(Row):
    """A row with a name. Which of its completions is shown first is the session's to choose."""

    id: str
    """16 hex digits that follow from the texts: votes refer to it."""

    @property
    def is_same(self) -> bool:
        """Whether nobody could tell the completions apart: it is a tie without asking."""
        return self.a.strip() == self.b.strip()

    @property
    def text(self) -> dict[str, str]:
        """The completions by their side."""
        return {"a": self.a, "b": self.b}


def read_pairs(file: Path) -> tuple[Pair, ...]:
    """The pairs of a jsonl file; raises UserError (exit 3) for a file or a row that cannot be read."""
    if not file.is_file() or (why := why_irregular(file)):
        what = f"cannot be read: {why}" if file.is_file() else "no such file of pairs"
        raise bad_data(what, file, "name a run's folder, or a jsonl file")
    with file_errors(file, file.name):
        rows = [read_row(raw.columns, raw.where) for raw in read_jsonl(file, file.name)]
    if not rows:
        raise bad_data("no pair in the file", file, EXAMPLE)
    return with_ids(rows)


def with_ids(rows: Iterable[Row]) -> tuple[Pair, ...]:
    """The pairs of rows. Rows of the same texts are told apart by their order."""
    seen = Counter[tuple[str, str, str]]()
    pairs = []
    for row in rows:
        texts = row.prompt, row.a, row.b
        digest = hashlib.sha256(json.dumps([*texts, seen[texts]]).encode()).hexdigest()
        seen[texts] += 1
        pairs.append(Pair(*texts, row.rewards, row.turns, id=digest[:16]))
    return tuple(pairs)


def write_rows(file: Path, rows: Sequence[Row]) -> None:
    """Write a file of pairs whole, unless it is there: its name says what is in it. Raises OSError."""
    if file.exists():
        return
    file.parent.mkdir(exist_ok=True)
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    DISK.write(scratch, "".join(f"{json.dumps(row.as_dict(), ensure_ascii=False)}\n" for row in rows).encode())
    DISK.sync(scratch)
    DISK.rename(scratch, file)
    DISK.sync(file.parent)
