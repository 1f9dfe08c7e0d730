"""The changes that a save makes on disk, one method a change: a test can fail, tear or kill any of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final


def no_link(path: str, flags: int) -> int:
    """Open a file as `open` does, but not where a link leads."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


class Disk:
    """The file system. A power cut may undo any change before its `sync`."""

    def mkdir(self, folder: Path) -> None:
        """Make a folder in a folder that exists."""
        folder.mkdir()

    def write(self, file: Path, content: bytes) -> None:
        """Make a file, or replace its content; a link is not followed: that is an error."""
        with open(file, "wb", opener=no_link) as opened:
            opened.write(content)

    def sync(self, path: Path) -> None:
        """Make sure that a file's content, or a folder's names, survive a power cut."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file or folder another name at once; a file of that name is replaced."""
        old.replace(new)

    def remove(self, folder: Path) -> None:
        """Delete a folder with everything in it."""
        shutil.rmtree(folder)


DISK: Final = Disk()


def replace_file(file: Path, text: str, disk: Disk = DISK) -> None:
    """Write a small file so that readers see the old text or the new one, never half of it."""
    scratch = file.with_name(f".{file.name}.tmp")
    disk.write(scratch, text.encode())
    disk.sync(scratch)
    disk.rename(scratch, file)
    disk.sync(file.parent)


@contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """Make an empty folder beside the path, to be given its name; what still has its own name at the end is removed.

    Raises OSError, about the path, where the disk refuses.
    """
    scratch = path.with_name(f".{path.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
