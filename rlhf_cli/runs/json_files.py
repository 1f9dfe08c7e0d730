"""Read JSON that may be missing, half written or foreign; write JSON that is whole or as it was."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter

from rlhf_cli.runs.disk import DISK, Disk, replace_file

JSON_OBJECT: Final = TypeAdapter(dict[str, Any])
LARGEST: Final = 2**24
"""Bytes of a JSON file that is read; those of a run are far smaller."""
PART: Final = 2**17
"""Bytes at a jsonl file's beginning or end that are read for its first or last lines."""

T = TypeVar("T")


def write_json(file: Path, value: Any, indent: int | None = 2, disk: Disk = DISK) -> None:
    """Replace the file, with numbers that JSON does not know as NaN and Infinity; raises OSError."""
    replace_file(file, json.dumps(value, indent=indent, ensure_ascii=False) + "\n", disk)


def finite(value: Any) -> Any:
    """`value` with None for every number that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def read_json(kind: TypeAdapter[T], file: Path) -> T | None:
    """The file's content as the type of the adapter; None where it is missing or of another type."""
    try:
        if not file.is_file() or file.stat().st_size > LARGEST:
            return None
        return kind.validate_json(file.read_bytes())
    except (OSError, ValueError):
        return None


def read_object(file: Path) -> dict[str, Any]:
    """The file's JSON object; empty where there is none that can be read."""
    return read_json(JSON_OBJECT, file) or {}


def read_rows(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The lines that are JSON objects; passes over others, such as the half line of a killed run."""
    for line in lines:
        try:
            yield JSON_OBJECT.validate_json(line)
        except ValueError:
            continue


def read_lines(file: Path, size: int = -1) -> list[bytes]:
    """The lines in the file's first `size` bytes, of which the last may be cut (-1: all), as far as it can be read."""
    return _read(file, size=size).split(b"\n")


def last_lines(file: Path) -> list[bytes]:
    """The lines in the file's last PART, the last one first; the first of the file among them may be cut."""
    return _read(file, start=-PART).split(b"\n")[::-1]


def _read(file: Path, start: int = 0, size: int = -1) -> bytes:
    """`size` bytes of a file (-1: all) from `start`, from the end where that is negative; empty where unreadable."""
    try:
        if not file.is_file():  # reading a pipe would never end
            return b""
        with file.open("rb") as handle:
            handle.seek(max(0, file.stat().st_size + start) if start < 0 else start)
            return handle.read(size)
    except OSError:
        return b""
