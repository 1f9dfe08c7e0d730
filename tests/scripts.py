"""Load a script as a module."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

SCRIPTS = Path(__file__).parents[1] / "scripts"


def load_beside(path: str) -> ModuleType:
    """The module of a file below scripts/ that imports others beside it, as these import it."""
    file = SCRIPTS / path
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    return importlib.import_module(file.stem)


def load(path: str) -> ModuleType:
    """The module of a file below scripts/."""
    file = SCRIPTS / path
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # where a dataclass looks for its own annotations
    spec.loader.exec_module(module)
    return module
