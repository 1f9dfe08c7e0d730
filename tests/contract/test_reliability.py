"""The scorecard is kept: each of the eighty cases has a test, and the page lists them as they are promised."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.reliability.scorecard import CASES
from tests.scripts import load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """What writes the page."""
    return load("crashes/reliability.py")


def test_there_are_eighty_cases() -> None:
    assert list(CASES) == list(range(1, 81))


def test_every_case_has_a_test(script: ModuleType) -> None:
    """And every test's case is one of them."""
    assert sorted(script.find_files()) == list(CASES)


def test_the_page_lists_what_is_promised(script: ModuleType) -> None:
    """scripts/reliability --page writes it."""
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert page == script.make_page(CASES, script.find_files())
