"""A finished run that many tests take apart, each in a copy of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Callable[[], Path]:
    """Copy that run to `out` in the test's own folder, as it was before it was concluded."""

    def copy() -> Path:
        folder = tmp_path / "out"
        shutil.copytree(finished, folder)
        shutil.rmtree(folder / "adapter")
        (folder / "result.json").unlink()
        return folder

    return copy
