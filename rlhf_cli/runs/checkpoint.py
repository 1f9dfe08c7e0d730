"""Checkpoints that are whole or absent: written aside, hashed, synced, published by one rename, verified before use.

A checkpoint is a folder `step-NNNNNNNN` with any files and, written last, MANIFEST.json with the size and SHA-256 of
each. Nothing here knows what the files mean.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import IO, Final

from rlhf_cli.errors import EXIT_USAGE, UserError
from rlhf_cli.runs.disk import DISK, Disk
from rlhf_cli.runs.folder import LOCK

MANIFEST: Final = "MANIFEST.json"
NAME: Final = re.compile(r"step-(\d{8})")


@dataclass(frozen=True, slots=True)
class Found:
    """The newest checkpoint that verifies, and why newer ones were passed over."""

    folder: Path | None
    skipped: tuple[tuple[Path, str], ...]


def publish(root: Path, step: int, files: Mapping[str, bytes], disk: Disk = DISK) -> Path:
    """Make the checkpoint `root/step-NNNNNNNN` of `files`, name -> content; returns the folder.

    A valid checkpoint of that step is left as it is; an invalid one is moved aside, never overwritten. Raises OSError
    when the disk refuses; what was there before is still there then, and a new checkpoint is whole or absent.
    """
    if not root.is_dir():
        disk.mkdir(root)
        disk.sync(root.parent)
    final = root / f"step-{step:08d}"
    if final.exists():
        if verify(final) is None:
            return final
        disk.rename(final, _unused(root / f".bad-{final.name}"))
    manifest = {"schema": 1, "step": step, "files": {name: _entry(files[name]) for name in sorted(files)}}
    scratch = _unused(root / f".tmp-{final.name}")
    try:
        disk.mkdir(scratch)
        for name, content in files.items():
            disk.write(scratch / name, content)
            disk.sync(scratch / name)
        disk.write(scratch / MANIFEST, (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode())
        disk.sync(scratch / MANIFEST)
        disk.sync(scratch)
        disk.rename(scratch, final)
    except OSError:
        with suppress(OSError):
            disk.remove(scratch)
        raise
    disk.sync(root)
    return final


def verify(folder: Path) -> str | None:
    """Why the checkpoint cannot be used, or None when every file is there with the size and SHA-256 of its manifest."""
    try:
        if folder.is_symlink():
            return "a link, not a folder"
        if (folder / MANIFEST).is_symlink() or not (folder / MANIFEST).is_file():  # reading a pipe would never end
            return f"{MANIFEST}: missing"
        manifest = json.loads((folder / MANIFEST).read_text())
        if f"step-{manifest['step']:08d}" != folder.name:
            return f"{MANIFEST} is of step {manifest['step']}"
        if manifest["files"] == {}:
            return f"{MANIFEST}: names no files"
        for name, entry in manifest["files"].items():
            if Path(name).name != name:
                return f"{name}: not a plain file name"
            file = folder / name
            if file.is_symlink() or not file.is_file():
                return f"{name}: missing"
            if file.stat().st_size != entry["size"]:
                return f"{name}: {file.stat().st_size} bytes, should be {entry['size']}"
            with file.open("rb") as handle:
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
            if digest != entry["sha256"]:
                return f"{name}: sha256 mismatch"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{MANIFEST}: not readable"
    return None


def checkpoints(root: Path) -> list[Path]:
    """The checkpoint folders under `root`, newest first, valid or not."""
    found = [folder for folder in root.iterdir() if NAME.fullmatch(folder.name)] if root.is_dir() else []
    return sorted(found, key=lambda folder: folder.name, reverse=True)


def newest_valid(root: Path) -> Found:
    """The newest checkpoint that verifies."""
    skipped: list[tuple[Path, str]] = []
    for folder in checkpoints(root):
        reason = verify(folder)
        if reason is None:
            return Found(folder, tuple(skipped))
        skipped.append((folder, reason))
    return Found(None, tuple(skipped))


def prune(root: Path, keep: int, pinned: Collection[int] = (), disk: Disk = DISK) -> None:
    """Remove all but the newest `keep` valid checkpoints and those of the steps `pinned`; nothing newer than they are.

    And what killed runs left behind. Raises OSError when the disk refuses.
    """
    valid = [folder for folder in checkpoints(root) if verify(folder) is None]
    for folder in valid[keep:]:
        if step_of(folder) not in pinned:
            gone = _unused(root / f".old-{folder.name}")
            disk.rename(folder, gone)  # vanishes at once; deleting may take longer
            disk.remove(gone)
    for leftover in [*root.glob(".tmp-*"), *root.glob(".old-*")]:
        disk.remove(leftover)


def abandon(root: Path, after: int, disk: Disk = DISK) -> None:
    """Move checkpoints newer than step `after` aside: a run that goes on from there must not take them for its own."""
    newer = [folder for folder in checkpoints(root) if step_of(folder) > after]
    for folder in newer:
        disk.rename(folder, _unused(root / f".abandoned-{folder.name}"))
    if newer:
        disk.sync(root)  # before the logs are cut back to `after`


def step_of(folder: Path) -> int:
    """The number of completed steps a checkpoint folder stands for."""
    match = NAME.fullmatch(folder.name)
    if match is None:
        raise ValueError(f"{folder} is no checkpoint")
    return int(match[1])


@contextmanager
def locked(run_dir: Path, *, only_read: bool = False) -> Iterator[None]:
    """Hold the run folder for the life of the block; raises UserError (exit 2) while another process holds it.

    Whoever will `only_read` may do so where nothing can be written: there the lock is shared, or, without its file,
    nobody's.
    """
    with _lock_of(run_dir / LOCK, only_read) as handle:
        try:
            if handle is not None:
                _flock(handle)
        except BlockingIOError as error:
            raise UserError(
                "another process is working in this run folder",
                where=str(run_dir),
                fix="wait for it, or give another run_dir",
                exit_code=EXIT_USAGE,
            ) from error
        yield


def _entry(content: bytes) -> dict[str, int | str]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _unused(path: Path) -> Path:
    candidates = chain([path], (path.with_name(f"{path.name}-{n}") for n in count(1)))
    return next(candidate for candidate in candidates if not candidate.exists())


def _lock_of(file: Path, only_read: bool) -> AbstractContextManager[IO[str] | None]:
    try:
        return file.open("a")
    except OSError:
        if not only_read:
            raise
    return file.open("r") if file.is_file() else nullcontext()


def _flock(handle: IO[str]) -> None:
    """Take the lock; whoever only looks whether it is held (`is_locked`) has it for less than the time waited here."""
    how = fcntl.LOCK_EX if handle.writable() else fcntl.LOCK_SH  # network disks give a reader no other
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(0.1)
        fcntl.flock(handle, how | fcntl.LOCK_NB)


def is_locked(run_dir: Path) -> bool:
    """Whether a process works in the run folder now. Nothing is written; the lock is shared for an instant to see."""
    lock = run_dir / LOCK
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
