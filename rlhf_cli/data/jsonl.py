"""Prompts from jsonl files: one JSON object per line."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from rlhf_cli.data.messages import describe_type
from rlhf_cli.data.source import FileSource, RawRow
from rlhf_cli.errors import bad_data
from rlhf_cli.json_text import from_json


class Jsonl(FileSource):
    """Prompts from jsonl files."""

    holds: ClassVar[str] = "one JSON object a line"

    kind: Literal["jsonl"]

    def read(self, file: Path, name: str) -> Iterator[RawRow]:
        """Yield every line that is not blank; raises UserError (exit 3) for a line that is not a JSON object."""
        return read_jsonl(file, name)


def read_jsonl(file: Path, name: str) -> Iterator[RawRow]:
    """Yield every line that is not blank; raises UserError (exit 3) for a line that is not a JSON object."""
    with file.open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.isspace():
                where = f"{name}:{number}"
                yield RawRow(json_object(line.rstrip("\r\n"), where), where)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in an object")
    return row


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON; null says that a value is missing")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits:.40} is too large for a number")
    return number


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite)


def json_object(line: str, where: str) -> dict[str, Any]:
    """The line as a JSON object whose texts can be written as UTF-8; raises UserError (exit 3) for anything else."""
    try:
        row = from_json(line, _DECODER)
        if "\\u" in line:  # an escape may be half of a surrogate pair; text decoded strictly has none
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise bad_data(
            f"{half} is half of a surrogate pair, which is no text", where, "write both halves, or none"
        ) from error
    except ValueError as error:
        raise bad_data(str(error), where, _fix(line)) from error
    if not isinstance(row, dict):
        raise bad_data(f"not a JSON object but {describe_type(row)}", where, _fix(line, 'write {"prompt": "..."}'))
    return row


def _fix(line: str, fix: str = Jsonl.holds) -> str:
    """The fix of a line that is no JSON object; one that begins a list is mostly of a file that is one list."""
    return f"{Jsonl.holds}; jq -c '.[]' FILE writes a list so" if line.lstrip().startswith("[") else fix
