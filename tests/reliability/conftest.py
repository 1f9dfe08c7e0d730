"""One finished run that many tests take apart, each in a copy of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.cli import run
from tests.support import QUICK


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of six steps, with a checkpoint after every second one; leave it as it is."""
    folder, before = tmp_path_factory.mktemp("finished"), Path.cwd()
    os.chdir(folder)
    try:
        assert run(["train", *QUICK, "run_dir=out"]) == 0
    finally:
        os.chdir(before)
    return folder / "out"


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
