"""Hash the file of a user's function with the files that it imports.

worker.py loads this file as well, so it imports only the standard library.
"""

import ast
import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

_INSTALLED: Final = tuple(
    os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
"""Folders of Python and of installed packages. A run records their versions instead."""

_ENDS: Final = (".py", f"{os.sep}__init__.py")


def hash_with_imports(file: str) -> str:
    """Return the SHA-256 of the file and of the files that it imports from its folder or the working directory.

    Those that it will import later, within a function, count as well.
    """
    folders = tuple(f"{os.path.realpath(folder)}{os.sep}" for folder in {os.path.dirname(file) or ".", os.getcwd()})
    named = (getattr(module, "__file__", None) for module in [*sys.modules.values()])
    files = {os.path.realpath(path) for path in named if isinstance(path, str) and os.path.isfile(path)}
    own = {path for path in files if path.startswith(folders) and not path.startswith(_INSTALLED)}
    own |= _named_later({os.path.realpath(file), *own}, [folder.rstrip(os.sep) for folder in folders])
    own -= {os.path.realpath(file), os.path.realpath(sys.argv[0])}
    hashes = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in (file, *sorted(own))]
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest() if own else hashes[0]


def _named_later(files: Iterable[str], folders: Sequence[str]) -> set[str]:
    """The files in the folders that an import names anywhere in these files, and in those in turn."""
    found, left = set[str](), [*files]
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left += _files_of_imports(path, folders)
    return found


def _files_of_imports(path: str, folders: Sequence[str]) -> Iterator[str]:
    try:
        nodes = [*ast.walk(ast.parse(Path(path).read_bytes()))]
    except (OSError, SyntaxError, ValueError, RecursionError):  # no source: who imports it says so
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            names, roots = [alias.name for alias in node.names], folders
        elif isinstance(node, ast.ImportFrom):
            names = [".".join(filter(None, (node.module, alias.name))) for alias in node.names]
            parents = [*map(str, Path(path).parents)]
            roots = parents[node.level - 1 : node.level] if node.level else folders
        else:
            continue
        for parts in (name.split(".") for name in names):
            if roots is folders and parts[0] in sys.stdlib_module_names:
                continue
            stems = [os.path.join(root, *parts[:end]) for root in roots for end in range(1, len(parts) + 1)]
            yield from map(
                os.path.realpath, filter(os.path.isfile, (f"{stem}{end}" for stem in stems for end in _ENDS))
            )
