"""scripts/pages/examples.py: the pictures it takes are on the pages."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from rlhf_cli.report.sweep_page import html
from rlhf_cli.sweep.answer import answer
from tests.pages import parse
from tests.scripts import load
from tests.unit.charts.drawn import SVG
from tests.unit.sweep.made import two_by_two

FILE = Path(__file__).parents[3] / "scripts" / "pages" / "examples.py"
DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def examples() -> ModuleType:
    return load("pages/examples.py")


def test_the_picture_of_a_sweep(examples: ModuleType, tmp_path: Path) -> None:
    sweep = two_by_two(tmp_path)
    picture = parse(examples.picture(html(sweep, answer(sweep)), examples.PICTURES["sweep"]))
    assert picture.findtext(f"{SVG}title") == "Reward against KL to the reference"
    assert not [each for each in picture.iter() if each.get("class") == "strip"]


def test_a_page_without_the_picture_is_refused(examples: ModuleType) -> None:
    with pytest.raises(ValueError, match="no picture"):
        examples.picture("<svg aria-label='other'></svg>", "this")


def test_the_pictures_in_docs_are_those_of_the_script(examples: ModuleType) -> None:
    for name, title in examples.PICTURES.items():
        assert parse((DOCS / f"{name}.svg").read_text(encoding="utf-8")).get("aria-label") == title
