"""kill -9 of any process of a run on several: a short scripts/kills --ranks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "crashes" / "rank_kills.py"


@pytest.mark.slow
def test_a_run_that_lost_a_process_is_the_same_run_on_any_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    short = ("model.layers=1", "samples_per_prompt=2", "max_new_tokens=4", "evaluate.prompts=4", "evaluate.samples=2")
    command = [sys.executable, str(SCRIPT), "--kills", "3", "--seed", "1", *short]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    _, *tries, last = done.stdout.splitlines()
    assert last.startswith("3 of 3 identical in ")
    assert [line.split()[-1] for line in tries] == ["identical"] * 3
    assert list(tmp_path.glob("rlhf-rank-kills-*")) == []
