"""Publish, verify and prune checkpoints. A checkpoint is whole or absent.

It is a folder `step-NNNNNNNN` with any files and, written last, MANIFEST.json with the size and SHA-256 of each. It is
written under another name, synced, and published by one rename; it is verified before it is used. The meaning of the
files is not known here.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any, Final

from rlhf_cli.json_text import from_json
from rlhf_cli.runs.disk import DISK, Disk
from rlhf_cli.runs.json_files import read_object

MANIFEST: Final = "MANIFEST.json"
NAME: Final = re.compile(r"step-(\d{8})")


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest valid checkpoint, if there is one."""

    folder: Path | None
    skipped: tuple[tuple[Path, str], ...]
    """Newer checkpoints that are not valid, each with the reason."""


def publish(
    root: Path, step: int, files: Mapping[str, bytes], disk: Disk = DISK, bound: Mapping[str, str] | None = None
) -> Path:
    """Make the checkpoint `root/step-NNNNNNNN` of `files`, name -> content; returns its folder.

    `bound` are files outside that belong to it, name -> SHA-256; the manifest names them. A valid checkpoint of that
    step stays as it is; an invalid one is moved aside, never overwritten. Raises OSError when the disk refuses: older
    checkpoints are still there then, and the new one is whole or absent.
    """
    if not root.is_dir():
        disk.mkdir(root)
        disk.sync(root.parent)
    final = folder_of(root, step)
    if final.exists():
        if why_invalid(final) is None:
            return final
        disk.rename(final, _unused(root / f".bad-{final.name}"))
    entries = {n: {"size": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in sorted(files.items())}
    manifest = {"schema": 1, "step": step, "files": entries} | ({"bound": dict(bound)} if bound else {})
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


def why_invalid(folder: Path) -> str | None:
    """The reason for which a checkpoint cannot be used; None when every file is as its manifest says."""
    try:
        if folder.is_symlink():
            return "a link, not a folder"
        if (folder / MANIFEST).is_symlink() or not (folder / MANIFEST).is_file():  # reading a pipe would never end
            return f"{MANIFEST}: missing"
        manifest = from_json((folder / MANIFEST).read_bytes())
        if folder_of(folder.parent, manifest["step"]) != folder:
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
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST}: not readable"
    return None


def read_bound(folder: Path) -> dict[str, Any]:
    """Read the SHA-256 of the outside files that a valid checkpoint names, by name; empty where it names none."""
    bound = read_object(folder / MANIFEST).get("bound")
    return bound if isinstance(bound, dict) else {}


def list_checkpoints(root: Path) -> list[Path]:
    """List the checkpoint folders under `root`, newest first, valid or not."""
    folders = [folder for folder in root.iterdir() if NAME.fullmatch(folder.name)] if root.is_dir() else []
    return sorted(folders, key=lambda folder: folder.name, reverse=True)


def find_newest(root: Path) -> Newest:
    """Find the newest valid checkpoint under `root`; say why newer ones are skipped."""
    skipped: list[tuple[Path, str]] = []
    for folder in list_checkpoints(root):
        reason = why_invalid(folder)
        if reason is None:
            return Newest(folder, tuple(skipped))
        skipped.append((folder, reason))
    return Newest(None, tuple(skipped))


def prune(root: Path, keep: int, pinned: Collection[int] = (), disk: Disk = DISK) -> None:
    """Remove valid checkpoints, but not the newest `keep`, nor those of the steps `pinned`.

    Also removes the scratch folders that killed runs left behind. Raises OSError when the disk refuses.
    """
    valid = [folder for folder in list_checkpoints(root) if why_invalid(folder) is None]
    for folder in valid[keep:]:
        if step_of(folder) not in pinned:
            gone = _unused(root / f".old-{folder.name}")
            disk.rename(folder, gone)  # it vanishes at once; deleting may take longer
            disk.remove(gone)
    for leftover in [*root.glob(".tmp-*"), *root.glob(".old-*")]:
        disk.remove(leftover)


def abandon(root: Path, after: int) -> None:
    """Move checkpoints newer than step `after` aside: a run that resumes there must not take them for its own."""
    newer = [folder for folder in list_checkpoints(root) if step_of(folder) > after]
    for folder in newer:
        DISK.rename(folder, _unused(root / f".abandoned-{folder.name}"))
    if newer:
        DISK.sync(root)  # before the logs are cut back to `after`


def folder_of(root: Path, step: int) -> Path:
    """The folder of a step's checkpoint under `root`, which there may be or not."""
    return root / f"step-{step:08d}"


def step_of(folder: Path) -> int:
    """The number of completed steps in the name of a checkpoint's folder."""
    match = NAME.fullmatch(folder.name)
    if match is None:
        raise ValueError(f"{folder} is no checkpoint")
    return int(match[1])


def _unused(path: Path) -> Path:
    candidates = chain([path], (path.with_name(f"{path.name}-{n}") for n in count(1)))
    return next(candidate for candidate in candidates if not candidate.exists())
