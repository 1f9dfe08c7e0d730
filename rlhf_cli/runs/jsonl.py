"""What a run writes down as it works: jsonl files that can be cut back to a checkpoint."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a file had been written: its length in bytes and the SHA-256 of that much."""

    size: int = 0
    sha256: str = hashlib.sha256().hexdigest()


class JsonlLog:
    """One jsonl file. Every line is handed to the system as it is written; numbers that are not finite become null.

    Lines end at "\\n" alone: a completion may hold other line separators.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._handle = file.open("ab", buffering=0)  # what a full disk refused is not tried again at the end
        self._digest = hashlib.sha256(file.read_bytes())
        self._size = file.stat().st_size

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one line; raises OSError where the disk refuses."""
        line = json.dumps(finite(row), ensure_ascii=False, separators=(", ", ": ")).encode() + b"\n"
        written = 0
        try:
            while written < len(line):
                written += self._handle.write(line[written:])
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.file)) from error
        self._digest.update(line)
        self._size += len(line)

    def mark(self) -> Mark:
        """Where the file ends now."""
        return Mark(self._size, self._digest.hexdigest())

    def sync(self) -> None:
        """Make sure it is on disk: a checkpoint must not remember more of a file than a power cut leaves of it."""
        os.fsync(self._handle.fileno())

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


def cut_back(file: Path, mark: Mark) -> Path | None:
    """Cut the file back to `mark`, dropping what was written after a checkpoint.

    If its beginning is not what the checkpoint saw, a copy is kept beside it, and its path returned.
    """
    content = file.read_bytes() if file.exists() else b""
    kept = None
    if hashlib.sha256(content[: mark.size]).hexdigest() != mark.sha256:
        number = next(n for n in range(1, 10_000) if not file.with_suffix(f".orphan-{n}.jsonl").exists())
        kept = file.with_suffix(f".orphan-{number}.jsonl")
        shutil.copyfile(file, kept) if file.exists() else kept.touch()
    end = (
        content.rfind(b"\n", 0, mark.size) + 1
    )  # the mark itself, unless the file was changed: then no half line stays
    if len(content) > end:
        with file.open("r+b") as handle:
            handle.truncate(end)
    return kept


def finite(value: Any) -> Any:
    """`value` with every number that JSON cannot hold replaced by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value
