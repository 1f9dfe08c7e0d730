"""Paths as a user writes them: `package:NAME/FILE` names a file inside an installed Python package."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Final

PACKAGE: Final = "package:"


def expand(path: str | Path) -> Path:
    """The path with `~` written out; as it is where there is no such home folder."""
    return Path(os.path.expanduser(path))


def locate(path: str) -> Path | None:
    """The file or folder that `path` names, existing or not; None where its package is not installed."""
    if not path.startswith(PACKAGE):
        return expand(path)
    package, _, inside = path.removeprefix(PACKAGE).partition("/")
    if not package.isidentifier():  # looking for a.b would import a
        return None
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / inside


def relative_to_here(path: Path) -> Path:
    """The path as the user would write it in the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
