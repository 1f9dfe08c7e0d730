"""A disk that fails at any operation, and what a power cut then leaves of everything that was not synced.

Every operation of a save goes through `rlhf_cli.runs.disk.Disk`, so numbering them numbers the instants at which a save
can be cut short (the idea of SQLite's crash tests, https://www.sqlite.org/testing.html).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rlhf_cli.runs.disk import Disk

Fault = Literal["fails", "fails for good", "killed", "torn"]


class Killed(BaseException):
    """The process is gone: nothing more happens, not even tidying up."""


class QuickDisk(Disk):
    """The disk without the wait: the tests keep account of what was synced themselves."""

    def sync(self, path: Path) -> None:
        assert path.exists()


@dataclass
class CrashingDisk(QuickDisk):
    """The real disk until operation `at` (0, 1, ...), where the `fault` happens.

    fails           that one operation raises OSError, and nothing of it is done
    fails for good  so does every later one
    killed          the process is gone before the operation
    torn            gone in the middle of it: half of a file is written; another operation is not begun
    """

    at: int
    fault: Fault
    done: int = 0
    unsynced: set[Path] = field(default_factory=set)
    """Files whose content a power cut may lose."""
    renamed: list[tuple[Path, Path, bytes | None]] = field(default_factory=list)
    """Renames that it may undo: from, to, and the content of the file that was replaced."""
    created: set[Path] = field(default_factory=set)
    """Files that it may take away: their folder does not hold their names for good yet."""
    dead: bool = False

    def _operation(self) -> bool:
        """Count the operation; True where it is to be torn."""
        if self.dead:
            raise Killed
        number, self.done = self.done, self.done + 1
        if number == self.at or (number > self.at and self.fault == "fails for good"):
            if self.fault.startswith("fails"):
                raise OSError(errno.ENOSPC, "No space left on device")
            self.dead = True
            if self.fault == "torn":
                return True
            raise Killed
        return False

    def mkdir(self, folder: Path) -> None:
        if self._operation():
            raise Killed
        super().mkdir(folder)

    def write(self, file: Path, content: bytes) -> None:
        torn = self._operation()
        self.unsynced.add(file)
        if not file.exists():
            self.created.add(file)
        super().write(file, content[: len(content) // 2] if torn else content)
        if torn:
            raise Killed

    def sync(self, path: Path) -> None:
        if self._operation():
            raise Killed
        super().sync(path)
        self.unsynced.discard(path)
        if path.is_dir():
            self.created = {file for file in self.created if file.parent != path}
            self.renamed = [entry for entry in self.renamed if entry[1].parent != path]

    def rename(self, old: Path, new: Path) -> None:
        if self._operation():
            raise Killed
        replaced = new.read_bytes() if new.is_file() else None
        super().rename(old, new)
        self.unsynced, self.created = (
            {new / path.relative_to(old) if path.is_relative_to(old) else path for path in paths}
            for paths in (self.unsynced, self.created)
        )
        if replaced is not None:  # the folder holds its name for good already
            self.created.discard(new)
        self.renamed.append((old, new, replaced))

    def remove(self, folder: Path) -> None:
        if self._operation():
            half = sorted(folder.iterdir())
            for file in half[: len(half) // 2]:  # some of the files are gone already
                file.unlink()
            raise Killed
        super().remove(folder)
        self.renamed = [entry for entry in self.renamed if entry[1] != folder]

    def cut_power(self, *, empty: bool, undo: bool) -> None:
        """Lose what was not synced: files come out `empty` or half, renames are undone, new names are gone."""
        for file in self.unsynced:
            if file.is_file():
                content = file.read_bytes()
                file.write_bytes(b"" if empty else content[: len(content) // 2])
        if undo:
            for file in self.created:
                file.unlink(missing_ok=True)
            for old, new, replaced in reversed(self.renamed):
                if new.exists() and not old.exists():
                    new.rename(old)
                    if replaced is not None:
                        new.write_bytes(replaced)
