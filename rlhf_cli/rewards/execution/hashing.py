"""Hash the file of a user's function with the files that it imports.

worker.py loads this file as well, so it imports only the standard library.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from pathlib import Path
from typing import Final

_INSTALLED: Final = tuple(
    os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
"""Folders of Python and of installed packages. A run records their versions instead."""


def hash_with_imports(file: str) -> str:
    """Return the SHA-256 of the file and of the files that it imported from its folder or the working directory."""
    folders = tuple(f"{os.path.realpath(folder)}{os.sep}" for folder in {os.path.dirname(file) or ".", os.getcwd()})
    named = (getattr(module, "__file__", None) for module in [*sys.modules.values()])
    files = {os.path.realpath(path) for path in named if isinstance(path, str) and os.path.isfile(path)}
    own = {path for path in files if path.startswith(folders) and not path.startswith(_INSTALLED)}
    own -= {os.path.realpath(file), os.path.realpath(sys.argv[0])}
    hashes = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in (file, *sorted(own))]
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest() if own else hashes[0]
