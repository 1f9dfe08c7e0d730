"""The house stands: imports only point down, every room lists its members, and each big library has its own rooms."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import rlhf_cli

PACKAGE = Path(rlhf_cli.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(file.parent for file in FILES if file.name == "__init__.py" and file.parent != PACKAGE)
LARGEST_ROOM = 18

LAYERS = (
    {"__init__", "errors", "types", "seeding", "settings", "paths", "plural", "json_text", "credentials", "starting"},
    {"functional", "charts"},
    {"evaluation"},
    {"reporter", "health"},
    {"schedules", "data", "models"},
    {"algorithms", "rewards"},
    {"schema"},
    {"runs", "prompts", "engine"},
    {"ranks"},
    {"feedback"},
    {"pipeline"},
    {"verify", "sweep", "supervised", "rounds"},
    {"verbs"},
    {"config", "report"},
    {"display", "demo"},
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
    "starlette": {"feedback"},
    "uvicorn": {"feedback"},
    "joblib": {"sweep"},
    "ray": {"sweep"},
    "submitit": {"sweep"},
}
WITHOUT_TORCH = {"runs", "evaluation", "health", "charts", "report", "feedback"}


def name_of(file: Path) -> str:
    """rlhf_cli.room.module; a package by its own name."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in FILES}


def room(module: str) -> str:
    """The package or module directly under rlhf_cli that a module belongs to."""
    return [*module.split("."), "__init__"][1]


def rank(module: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if room(module) in layer)


def imports(file: Path) -> Iterator[str]:
    """Every module imported anywhere in the file, in functions and for types too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module is not None
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in names)


@cache
def imported() -> dict[str, set[str]]:
    """The imports of each module; read when the first test asks, not by each process that only lists the tests."""
    return {module: set(imports(file)) for module, file in MODULES.items()}


def own() -> dict[str, set[str]]:
    """The modules of the package that each module imports."""
    return {module: names & MODULES.keys() for module, names in imported().items()}


def libraries(module: str) -> set[str]:
    return {name.split(".")[0] for name in imported()[module]}


def test_every_room_has_a_layer() -> None:
    assert {room(module) for module in MODULES} == set().union(*LAYERS)


def test_imports_point_down() -> None:
    upward = [
        f"{module} imports {name}"
        for module, names in own().items()
        for name in names
        if room(name) not in (room(module), "__init__") and rank(name) >= rank(module)
    ]
    assert upward == []


def test_no_import_goes_in_a_circle_inside_a_room_either() -> None:
    circle: list[str] = []
    try:
        TopologicalSorter(own()).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert circle == []


def test_big_libraries_stay_in_their_rooms() -> None:
    strangers = [
        f"{module} imports {library}"
        for module in MODULES
        for library, homes in HOMES.items()
        if library in libraries(module) and room(module) not in homes
    ]
    assert strangers == []
    assert [module for module in MODULES if room(module) in WITHOUT_TORCH and "torch" in libraries(module)] == []


def test_pickle_is_never_loaded() -> None:
    for module, file in MODULES.items():
        text = file.read_text(encoding="utf-8")
        assert not {"pickle", "dill"} & libraries(module), module
        if module != "rlhf_cli.sweep.elsewhere":  # which has joblib start processes of this machine
            assert "joblib" not in libraries(module), module
        assert "torch.load(" not in text, module
        assert "instantiate(" not in text, module


def test_every_map_lists_every_member() -> None:
    """The docstring of a room's `__init__` has a line that begins with the name of each member, and no other's."""
    wrong = []
    for folder in ROOMS:
        members = {file.stem for file in folder.glob("*.py")} - {"__init__"}
        members |= {inner.name for inner in ROOMS if inner.parent == folder}
        text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
        listed = set(re.findall(r"^(\w+) {2,}\S", text, re.MULTILINE))
        if listed != members:
            wrong.append(f"{folder.name}: missing {sorted(members - listed)}, gone {sorted(listed - members)}")
    assert wrong == []


def test_no_room_is_a_drawer() -> None:
    sizes = {folder.name: len([*folder.glob("*.py")]) - 1 for folder in ROOMS}
    assert {name: size for name, size in sizes.items() if size > LARGEST_ROOM} == {}


OPENINGS = re.compile(r"(What|That|How|Where|When|Why|Whose|Which|Of)(ever)?\b")
"""Words that begin a clause, not a sentence."""
FUTURE = "from __future__ import annotations\n"


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The line and the text of every docstring, also of fields and constants."""
    for node in ast.walk(tree):
        for statement in node.body if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) else []:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield statement.lineno, str(statement.value.value).strip()


def test_a_docstring_begins_with_the_thing_itself() -> None:
    """Not with a clause about it, as "Why the engine refuses" or "Of the threads"."""
    found = [
        f"{file.relative_to(PACKAGE)}:{line}: {text:.40}"
        for file in FILES
        for line, text in docstrings(ast.parse(file.read_text(encoding="utf-8")))
        if OPENINGS.match(text)
    ]
    assert found == []


def names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def names_annotated(node: ast.stmt) -> set[str]:
    """The names in all annotations of a statement."""
    found = set[str]()
    for inner in ast.walk(node):
        for annotation in (getattr(inner, "annotation", None), getattr(inner, "returns", None)):
            found |= names(annotation) if annotation else set()
    return found


def names_bound(node: ast.stmt) -> set[str]:
    """The names that a statement binds when it runs; an import for types alone never does."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    return set() if isinstance(node, ast.If) else names(node)


def test_the_future_is_imported_where_an_annotation_names_what_is_not_there_yet() -> None:
    """Elsewhere it does nothing; Python 3.11 and ruff see to it that no other file lacks it."""
    idle = []
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        known, needs = {*dir(builtins)}, False
        for node in ast.parse(text).body:
            needs |= not names_annotated(node) <= known
            known |= names_bound(node)
        if FUTURE in text and not needs:
            idle.append(str(file.relative_to(PACKAGE)))
    assert idle == []
