"""scripts/mutation/swap.py: what others have imported behaves as the mutant does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts import load

swap = load("mutation/swap.py")

CODE = """
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

LIMIT = 5


def plain(x, more=1):
    return x + more + LIMIT


@lru_cache
def cached(x):
    return x + 1


@dataclass(frozen=True)
class Pair:
    a: int
    b: int = 1

    @property
    def total(self):
        return self.a + 1

    @classmethod
    def of(cls, x):
        return cls(x + 1)

    def moved(self, by=1):
        return Pair(self.a + by)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    file = tmp_path / "swapped.py"
    file.write_text(CODE)
    spec = importlib.util.spec_from_file_location("swapped", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "swapped", module)  # where a dataclass looks for its own annotations
    spec.loader.exec_module(module)
    return module


def test_functions_that_are_held_elsewhere_are_those_of_the_mutant(module: ModuleType) -> None:
    plain, cached, pair = module.plain, module.cached, module.Pair(10)
    assert (plain(1), cached(1), pair.total, module.Pair.of(1).a, pair.moved().a) == (7, 2, 11, 2, 11)
    swap.swap_functions(module, CODE.replace("more=1", "more=2").replace("+ 1", "- 1").replace("by=1", "by=3"))
    assert (plain(1), cached(1), pair.total, module.Pair.of(1).a, pair.moved().a) == (8, 0, 9, 0, 13)


def test_so_are_those_of_settings_that_are_built_when_they_are_asked(tmp_path: Path) -> None:
    module = ModuleType("text")
    module.__file__ = str(tmp_path)
    code = (
        "from pydantic import BaseModel, ConfigDict\n"
        "class Text(BaseModel):\n"
        "    model_config = ConfigDict(defer_build=True)\n"
        "    size: int\n"
        "    def doubled(self):\n"
        "        return 2 * self.size\n"
    )
    exec(code, vars(module))
    text = module.Text(size=4)
    swap.swap_functions(module, code.replace("2 *", "3 *"))
    assert text.doubled() == 12


def test_a_constant_stays(module: ModuleType) -> None:
    swap.swap_functions(module, CODE.replace("LIMIT = 5", "LIMIT = 6"))
    assert (module.LIMIT, module.plain(1)) == (5, 7)


def test_a_function_that_holds_other_variables_is_refused(module: ModuleType) -> None:
    module.plain = (lambda y: lambda x, more=1: x + y)(3)
    with pytest.raises(ValueError, match="free vars"):
        swap.swap_functions(module, CODE)
