"""Read JSON files that may be missing, half written or foreign; replace a JSON file whole or not at all."""

import errno
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar

from pydantic import AfterValidator, TypeAdapter

from rlhf_cli.runs.disk import DISK, Disk, no_link, replace_file
from rlhf_cli.settings import READ_STRICTLY


def check_numbers(value: Any) -> Any:
    """Return the value; raises ValueError where it holds a whole number that no setting may have, nor a float."""
    if isinstance(value, int) and abs(value) >= 2**64:
        raise ValueError("a whole number of more than 64 bits")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        check_numbers(inner)
    return value


JSON_OBJECT: Final = TypeAdapter(Annotated[dict[str, Any], AfterValidator(check_numbers)])
LARGEST: Final = 2**24
"""The largest JSON file that is read, in bytes; those of a run are far smaller."""
PART: Final = 2**17
"""Bytes at the beginning or end of a jsonl file that are read for its first or last lines."""

T = TypeVar("T")


def write_json(file: Path, value: Any, indent: int | None = 2, disk: Disk = DISK) -> None:
    """Replace the file. Numbers that JSON lacks are written as NaN and Infinity. Raises OSError."""
    replace_file(file, json.dumps(value, indent=indent, ensure_ascii=False) + "\n", disk)


def append_json(file: Path, value: Any) -> None:
    """Add a line to a jsonl file, on a line of its own where the last one was cut short. Raises OSError."""
    with open(file, "a+b", opener=no_link) as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(size - 1, 0))
        cut = opened.read() not in (b"", b"\n")
        opened.write((b"\n" if cut else b"") + json.dumps(finite(value), ensure_ascii=False).encode() + b"\n")


def finite(value: Any) -> Any:
    """Return `value` with None in place of every number that is not finite, which JSON lacks."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def parse(kind: TypeAdapter[T], content: bytes | str) -> T | None:
    """Parse JSON as the adapter's type; None where it is of another type."""
    try:
        return kind.validate_json(content)
    except ValueError:
        return None


def read_json(kind: TypeAdapter[T], file: Path) -> T | None:
    """Read the file as the adapter's type; None where it is missing or of another type."""
    try:
        is_read = file.is_file() and file.stat().st_size <= LARGEST
        return parse(kind, file.read_bytes()) if is_read else None
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class Stored:
    """The base of dataclasses that a file holds as JSON objects; unknown keys and other types are refused."""

    __pydantic_config__ = READ_STRICTLY

    @classmethod
    @cache
    def _adapter(cls) -> TypeAdapter[Any]:
        return TypeAdapter(cls)

    @classmethod
    def parse(cls, content: bytes | str) -> Self | None:
        """Parse JSON; None where it is anything else."""
        return parse(cls._adapter(), content)

    def content(self) -> dict[str, Any]:
        """Plain data, as the file holds it; numbers may not be finite."""
        return asdict(self)


class StoredAlone(Stored):
    """The base of those that have a file of a folder to themselves."""

    __slots__ = ()
    file: ClassVar[str]
    """The file's name."""
    indent: ClassVar[int | None] = 2

    def write(self, folder: Path) -> None:
        """Replace the folder's file; raises OSError."""
        write_json(folder / self.file, self.content(), self.indent)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the folder's file; None where it is missing or foreign."""
        return read_json(cls._adapter(), folder / cls.file)


def read_object(file: Path) -> dict[str, Any]:
    """Read the file's JSON object; empty where it has none."""
    return read_json(JSON_OBJECT, file) or {}


def read_rows(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the lines that are JSON objects; skip others, such as the half line of a killed run."""
    yield from (row for line in lines if (row := parse(JSON_OBJECT, line)) is not None)


def content_of(file: Path) -> bytes:
    """Read the whole file; empty where there is none. Raises OSError where it cannot be read."""
    return file.read_bytes() if file.is_file() else b""


def read_content(file: Path) -> bytes:
    """Read the whole file; raises OSError, also where it is a pipe or the like, which has no end."""
    if file.exists() and not (file.is_file() or file.is_dir()):
        raise OSError(errno.EINVAL, "neither a file nor a folder", str(file))
    return file.read_bytes()


def read_lines(file: Path, size: int = -1) -> list[bytes]:
    """Read the lines in the file's first `size` bytes (-1: all), of which the last may be cut; [b""] if unreadable."""
    return _read(file, size=size).split(b"\n")


def read_last_lines(file: Path) -> list[bytes]:
    """Read the lines in the file's last PART bytes, last line first; the last of the list may be cut."""
    return _read(file, start=-PART).split(b"\n")[::-1]


def _read(file: Path, start: int = 0, size: int = -1) -> bytes:
    """Read `size` bytes (-1: all) from `start`, which counts from the end if negative; empty where unreadable."""
    try:
        if not file.is_file():  # reading a pipe would never end
            return b""
        with file.open("rb") as handle:
            handle.seek(max(0, file.stat().st_size + start) if start < 0 else start)
            return handle.read(size)
    except OSError:
        return b""
