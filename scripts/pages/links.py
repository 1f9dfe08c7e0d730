"""Mend the line numbers in the documents: in [text](FILE#Ln "snippet"), n becomes the line that holds the snippet."""

from __future__ import annotations

import re
import sys
from pathlib import Path

LINK = re.compile(r'\]\((?P<file>[^)#\s]+)#L(?P<line>\d+) "(?P<snippet>[^"]+)"\)')


def line_of(file: Path, snippet: str) -> int:
    """The first line that holds the snippet; raises ValueError where none does."""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if snippet in line:
            return number
    raise ValueError(f"{file}: no line holds {snippet!r}")


def mend_links(document: Path) -> str:
    """The document's text, with the right line number in every such link."""

    def mend(match: re.Match[str]) -> str:
        number = line_of(document.parent / match["file"], match["snippet"])
        return "](" + match["file"] + f'#L{number} "{match["snippet"]}")'

    return LINK.sub(mend, document.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for document in sorted(Path(__file__).parents[2].glob("docs/**/*.md")):
        text = mend_links(document)
        if text != document.read_text(encoding="utf-8"):
            document.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{document.name}: line numbers mended\n")
