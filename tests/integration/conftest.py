"""Real runs, in this process where possible: importing torch and transformers once is most of their cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.cli import run
from tests.support import Outcome


@pytest.fixture
def rlhf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `rlhf ...` in this process, in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: str) -> Outcome:
        capfd.readouterr()
        code = run(list(argv))
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call
