"""One process works in a run's folder at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.runs.lock import hold


def test_another_process_is_refused_and_let_in_afterwards(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from rlhf_cli.runs.lock import hold\n"
        "with hold(Path(sys.argv[1])):\n    print('in', flush=True)\n    input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        with pytest.raises(UserError) as caught, hold(tmp_path):
            raise AssertionError("let in")
        other.communicate("\n", timeout=30)
    assert caught.value.exit_code == 2
    assert caught.value.line() == (
        f"another process is working in this run folder ({tmp_path}); fix: wait for it, or give another run_dir"
    )
    with hold(tmp_path):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("left behind")
    with hold(tmp_path):
        pass


def test_a_pipe_in_the_locks_place_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(UserError, match=r"^\.lock is no file") as caught, hold(tmp_path):
        raise AssertionError("let in")
    assert caught.value.exit_code == 6
