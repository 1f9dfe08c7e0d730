"""One process works in a run's folder at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.runs import lock
from rlhf_cli.runs.lock import hold, is_locked


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


def test_who_only_asks_whether_a_folder_is_held_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = (tmp_path / ".lock").open("w")
    fcntl.flock(asking, fcntl.LOCK_SH)
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        asking.close()

    monkeypatch.setattr(lock.time, "sleep", sleep)
    with hold(tmp_path):
        assert is_locked(tmp_path)
    assert waited == [0.1]


def test_a_folder_that_is_not_there_is_held_by_readers_alone(tmp_path: Path) -> None:
    with hold(tmp_path / "gone", only_read=True):
        pass
    with pytest.raises(FileNotFoundError), hold(tmp_path / "gone"):
        raise AssertionError("let in")
    assert not (tmp_path / "gone").exists()


def test_readers_of_a_folder_that_cannot_be_written_share_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".lock").touch()
    real = Path.open

    def read_only(file: Path, mode: str = "r") -> Any:
        if mode == "a":
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return real(file, mode)

    monkeypatch.setattr(Path, "open", read_only)
    with hold(tmp_path, only_read=True), hold(tmp_path, only_read=True):
        assert not is_locked(tmp_path)
    with pytest.raises(PermissionError), hold(tmp_path):
        raise AssertionError("let in")
    writer = real(tmp_path / ".lock", "w")
    fcntl.flock(writer, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="another process is working"), hold(tmp_path, only_read=True):
        raise AssertionError("let in")
    writer.close()


def test_a_disk_without_locks_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".lock").touch()

    def refuse(*given: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert not is_locked(tmp_path)
