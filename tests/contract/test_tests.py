"""Tests mirror the house: a folder a room, a module a module, and no test module leans on another."""

from __future__ import annotations

import ast
from pathlib import Path

import rlhf_cli

PACKAGE = Path(rlhf_cli.__file__).parent
TESTS = Path(__file__).parents[1]
UNIT = TESTS / "unit"
TOPICS = {
    "algorithms": {"thresholds", "counts", "from_the_papers", "exact_gradient", "demands"},
    "config": {"amend", "folders", "growth", "setters", "show"},
    "data": {"tables", "large"},
    "demo": {"scenes"},
    "engine": {"recompute"},
    "schedules": {"schedules", "controllers"},
    "scripts": {"alarms", "bench", "claims", "examples", "headroom_noise", "mutants", "reference", "scaling", "swap"},
    "sweep": {"end", "shown"},
}
"""Tests of a room that are about more than one of its modules."""


def test_no_test_module_imports_another() -> None:
    """What two of them share lives in a support module."""
    found = [
        f"{file.relative_to(TESTS)} imports {node.module}"
        for file in TESTS.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[-1].startswith("test_")
    ]
    assert found == []


def test_a_unit_test_is_found_where_its_module_is() -> None:
    lost = []
    for file in UNIT.rglob("test_*.py"):
        room, name = file.parent.relative_to(UNIT), file.stem.removeprefix("test_")
        if not (PACKAGE / room / f"{name}.py").is_file() and name not in TOPICS.get(str(room), set()):
            lost.append(str(file.relative_to(TESTS)))
    assert lost == []
