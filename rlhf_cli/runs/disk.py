"""The changes that a save makes on disk, one method a change: a test can fail, tear or kill any of them."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from rlhf_cli.errors import UserError, bad_disk


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


def check_parent(file: Path) -> None:
    """Raise UserError (exit 6) where the folder of a file that is to be written is missing."""
    if not (folder := file.parent).is_dir():
        raise bad_disk("no such folder", folder, "make it, or name another path")


@contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """Make an empty folder beside the path, to be given its name; what still has its own name at the end is removed.

    What a killed process left there is removed first. Raises UserError (exit 2) where another process makes such a
    folder now, and OSError, about the path, where the disk refuses.
    """
    scratch = path.with_name(f".{path.name}.new")
    try:
        handle = _open_locked(scratch)
    except BlockingIOError as error:
        what, fix = "another process is writing this", "wait for it, or name another path"
        raise UserError(what, where=str(path), fix=fix) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        for left in scratch.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        yield scratch
    finally:
        if _is_at(handle, scratch):
            shutil.rmtree(scratch, ignore_errors=True)
        os.close(handle)


def _open_locked(folder: Path) -> int:
    """Make the folder if it is missing, open it and lock it; raises BlockingIOError where another process has it."""
    while True:
        folder.mkdir(exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise
        except OSError:  # a disk without locks
            return handle
        if _is_at(handle, folder):
            return handle
        os.close(handle)  # its owner gave it another name before it was locked here


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file or folder is what has this path now."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False
