"""Find the files that a path or pattern names, and name the errors of reading them."""

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlhf_cli.errors import bad_data
from rlhf_cli.paths import find_similar, locate, why_irregular


def find_files(path: str, key: str = "data.path") -> list[tuple[Path, str]]:
    """Find the file, or the files that match the pattern, sorted by name; each with its name in messages.

    `key` is the setting that names it. Raises UserError (exit 3) where there is none, or one is no regular file.
    """
    file = locate(path)
    if file is not None and file.is_file():
        return [(file, file.name)]
    matches = [Path(match) for match in sorted(glob.glob(str(file), recursive=True))] if file is not None else []
    files = [match for match in matches if match.is_file()]
    if not files:
        what = "no file fits the pattern" if glob.has_magic(path) else "no such prompt file"
        fix = f"give a file by {key}="
        if file is not None and file.is_dir():
            what, fix = "a folder, not a prompt file", "name its files by a pattern, as FOLDER/*.jsonl"
        elif file is not None and (near := find_similar(file)):
            fix = f"did you mean {near}?"
        raise bad_data(what, path, fix)
    if irregular := next(((match, why) for match in files if (why := why_irregular(match))), None):
        raise bad_data(f"cannot be read: {irregular[1]}", irregular[0])
    root = os.path.commonpath([file.parent for file in files])
    return [(file, os.path.relpath(file, root)) for file in files]


@contextmanager
def file_errors(file: Path, name: str) -> Iterator[None]:
    """Turn errors of reading the file, and text that is not UTF-8, into UserErrors (exit 3)."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise bad_data("not UTF-8 text", f"{name}:{find_odd_line(file)}", "save it as UTF-8") from error
    except OSError as error:
        raise bad_data(f"cannot be read: {error.strerror}", file) from error


def find_odd_line(file: Path) -> int:
    """The number of the first line of a file that is not UTF-8 text."""
    with file.open("rb") as lines:
        return next((at for at, line in enumerate(lines, start=1) if line.decode(errors="ignore").encode() != line), 1)
