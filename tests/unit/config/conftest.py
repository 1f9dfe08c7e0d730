from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.config.compose import Launch, launch
from rlhf_cli.errors import UserError

Recorder = Callable[..., list[Launch]]


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def started() -> Recorder:
    """Runs a command line and returns the jobs that its task was called with."""

    def run(*argv: str) -> list[Launch]:
        jobs: list[Launch] = []
        launch(argv, jobs.append)
        return jobs

    return run


@pytest.fixture
def refused(cwd: Path) -> Callable[..., str]:
    """Runs a command line that must be refused, with nothing made and no job started; returns the error."""

    def run(*argv: str) -> str:
        before = sorted(cwd.rglob("*"))
        with pytest.raises(UserError) as error:
            launch(argv, lambda job: pytest.fail("a job was started"))
        assert sorted(cwd.rglob("*")) == before
        assert error.value.exit_code == 2
        return error.value.line()

    return run


def write(path: Path, text: str) -> Path:
    """A file with this text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
