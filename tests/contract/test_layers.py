"""The house stands: imports only point down, and each big library lives in its own rooms."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import rlhf_cli

PACKAGE = Path(rlhf_cli.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

LAYERS = (
    {"__init__", "errors", "types", "seeding", "settings", "paths", "disk", "allocator"},
    {"functional"},
    {"schedules", "algorithms", "models", "data", "optimizer"},
    {"engine", "rewards"},
    {"schema", "checkpoint", "metrics", "sinks"},
    {"pipeline"},
    {"sweep"},
    {"config", "report"},
    {"display"},
    {"demo"},
    {"commands"},
    {"cli"},
    {"__main__"},
)

HOMES = {
    "hydra": {"config"},
    "omegaconf": {"config"},
    "transformers": {"models", "engine"},
    "peft": {"models", "engine"},
    "tokenizers": {"models", "engine"},
    "rich": {"display", "commands"},
}


def room(module: Path) -> str:
    """The package or module directly under rlhf_cli that a file belongs to."""
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rank(name: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


def imports(module: Path) -> Iterator[str]:
    """Every module imported anywhere in the file, in functions and for types too."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            assert node.module is not None
            yield node.module
            if node.module == "rlhf_cli":
                yield from (f"rlhf_cli.{alias.name}" for alias in node.names)


def test_every_room_has_a_layer() -> None:
    assert {room(module) for module in MODULES} == set().union(*LAYERS)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(module: Path) -> None:
    here = room(module)
    for name in imports(module):
        parts = name.split(".")
        if parts[0] == "rlhf_cli" and len(parts) > 1 and parts[1] != here and not parts[1].startswith("__"):
            assert rank(parts[1]) < rank(here), f"{here} imports {name}"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_big_libraries_stay_in_their_rooms(module: Path) -> None:
    for name in imports(module):
        home = HOMES.get(name.split(".")[0])
        assert home is None or room(module) in home, f"{room(module)} imports {name}"


def test_pickle_is_never_loaded() -> None:
    for module in MODULES:
        text = module.read_text(encoding="utf-8")
        assert not {"pickle", "dill", "joblib"} & {name.split(".")[0] for name in imports(module)}, module
        assert "torch.load(" not in text, module
        assert "instantiate(" not in text, module
