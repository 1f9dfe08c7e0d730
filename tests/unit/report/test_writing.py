"""Pages are written whole, and over nothing but pages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.report.page import GENERATOR
from rlhf_cli.report.writing import write_page


def test_a_page_replaces_a_page_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    write_page(file, f"{GENERATOR} one", overwrite=False)
    write_page(file, f"{GENERATOR} two", overwrite=False)
    assert file.read_text() == f"{GENERATOR} two"
    file.write_text("notes")
    with pytest.raises(UserError, match="no page of rlhf"):
        write_page(file, "three", overwrite=False)
    assert file.read_text() == "notes"
    write_page(file, "three", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_pipe_in_the_place_of_a_page_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "report.html")
    with pytest.raises(UserError, match="no page of rlhf"):
        write_page(tmp_path / "report.html", "one", overwrite=False)
