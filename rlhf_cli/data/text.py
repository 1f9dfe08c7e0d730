"""Prompts from text files: one prompt per line."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from rlhf_cli.data.source import FileSource, RawRow


class Text(FileSource):
    """Prompts from text files; their only column is called prompt."""

    holds: ClassVar[str] = "one prompt a line"

    kind: Literal["text"]

    def read(self, file: Path, name: str) -> Iterator[RawRow]:
        """Yield every line that is not blank."""
        with file.open(encoding="utf-8-sig", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.isspace():
                    yield RawRow({"prompt": line.rstrip("\r\n")}, f"{name}:{number}")
