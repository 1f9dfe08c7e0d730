"""Write jsonl files that can be cut back to where a checkpoint saw them."""

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
    """The end of a file at one moment: its length in bytes, and the SHA-256 of its content up to there."""

    size: int = 0
    sha256: str = hashlib.sha256().hexdigest()


class JsonlLog:
    """One jsonl file, without a buffer; numbers that are not finite become null.

    Lines end at "\\n" alone: a completion may hold other line separators.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._handle = file.open(
            "ab", buffering=0
        )  # a buffer would try again at the end to write what a full disk refused
        self._digest = hashlib.sha256(file.read_bytes())
        self._size = file.stat().st_size

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one line; raises OSError where the disk refuses."""
        line = json.dumps(finite(row), ensure_ascii=False, separators=(", ", ": ")).encode() + b"\n"
        done = 0
        try:
            while done < len(line):
                done += self._handle.write(line[done:])
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.file)) from error
        self._digest.update(line)
        self._size += len(line)

    def mark(self) -> Mark:
        """The end of the file now."""
        return Mark(self._size, self._digest.hexdigest())

    def sync(self) -> None:
        """Put the file on disk: a checkpoint must not remember more of it than a power cut leaves."""
        os.fsync(self._handle.fileno())

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


def cut_back(file: Path, mark: Mark) -> Path | None:
    """Cut the file back to `mark`: drop the lines after a checkpoint.

    If the file's beginning is not what the checkpoint saw, keeps a copy beside it and returns the copy's path.
    """
    content = file.read_bytes() if file.exists() else b""
    copy = None
    if hashlib.sha256(content[: mark.size]).hexdigest() != mark.sha256:
        number = next(n for n in range(1, 10_000) if not file.with_suffix(f".orphan-{n}.jsonl").exists())
        copy = file.with_suffix(f".orphan-{number}.jsonl")
        shutil.copyfile(file, copy) if file.exists() else copy.touch()
    end = content.rfind(b"\n", 0, mark.size) + 1  # `mark.size`, unless the file was changed: no half line stays
    if len(content) > end:
        with file.open("r+b") as handle:
            handle.truncate(end)
    return copy


def finite(value: Any) -> Any:
    """`value` with None for every number that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value
