"""The files that a path of the user's names, and what may go wrong in reading one."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.paths import locate


def matching_files(path: str) -> list[tuple[Path, str]]:
    """The file, or the files that fit the pattern in the order of their names, each with what messages call it.

    Raises UserError (exit 3) where there is none.
    """
    file = locate(path)
    if file is not None and file.is_file():
        return [(file, file.name)]
    found = [Path(one) for one in sorted(glob.glob(str(file), recursive=True))] if file is not None else []
    files = [one for one in found if one.is_file()]
    if not files:
        what = "no file fits the pattern" if glob.has_magic(path) else "no such prompt file"
        raise UserError(what, where=path, fix="give a file by data.path=", exit_code=EXIT_DATA)
    root = os.path.commonpath([one.parent for one in files])
    return [(one, os.path.relpath(one, root)) for one in files]


@contextmanager
def readable(file: Path, name: str) -> Iterator[None]:
    """Raises UserError (exit 3) for a file that cannot be read inside, or is no text."""
    try:
        yield
    except UnicodeDecodeError as error:
        what = f"not UTF-8 text: {error.reason} at byte {error.start}"
        raise UserError(what, where=name, fix="save it as UTF-8", exit_code=EXIT_DATA) from error
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(file), exit_code=EXIT_DATA) from error


def bad_row(what: str, where: str, fix: str) -> UserError:
    """The mistake of one row."""
    return UserError(what, where=where, fix=fix, exit_code=EXIT_DATA)
