"""Lock the folder of a run: one process works in it at a time."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO

from rlhf_cli.errors import UserError, bad_disk
from rlhf_cli.runs.folder import LOCK


@contextmanager
def hold(
    folder: Path, *, only_read: bool = False, what: str = "run folder", instead: str = "run_dir"
) -> Iterator[None]:
    """Hold the folder's lock during the block; raises UserError (exit 2) where another process holds it.

    With `only_read`, a folder that cannot be written is no error: its lock is shared, and without a lock file it is not
    locked at all. `what` the folder is, and `instead` what names another one, are for the message.
    """
    with _open_lock(folder / LOCK, only_read) as handle:
        try:
            if handle is not None:
                _take(handle)
        except BlockingIOError as error:
            raise UserError(
                f"another process is working in this {what}",
                where=str(folder),
                fix=f"wait for it, or give another {instead}",
            ) from error
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process holds the folder now. It writes nothing, and shares the lock for an instant to find out."""
    lock = folder / LOCK
    try:
        if lock.is_symlink() or not lock.is_file():
            return False
        with lock.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _open_lock(file: Path, only_read: bool) -> AbstractContextManager[IO[str] | None]:
    if file.exists() and not file.is_file():  # opening a pipe would never end
        raise bad_disk(f"{file.name} is no file", file, "move it away, or give another folder")
    try:
        return file.open("a")
    except OSError:
        if not only_read:
            raise
    return file.open("r") if file.is_file() else nullcontext()


def _take(handle: IO[str]) -> None:
    """Take the lock, with one more try: `is_locked` has it for less than the time waited here."""
    how = fcntl.LOCK_EX if handle.writable() else fcntl.LOCK_SH  # network disks give a reader no exclusive one
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(0.1)
        fcntl.flock(handle, how | fcntl.LOCK_NB)
