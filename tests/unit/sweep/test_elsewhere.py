"""A trial that runs elsewhere is a process to the pool."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from rlhf_cli.sweep import elsewhere
from rlhf_cli.sweep.launchers import Joblib, Launcher
from rlhf_cli.sweep.pool import Job, Process, start_process
from rlhf_cli.sweep.record import Ending
from rlhf_cli.sweep.remote import RemoteTrial


class Handle:
    """A trial of which the test says how it stands."""

    def __init__(self) -> None:
        self.standing: int | Exception | None = None
        self.waits = False

    def result(self) -> int | None:
        if isinstance(self.standing, Exception):
            raise self.standing
        return self.standing

    def drop(self) -> bool:
        return self.waits


@pytest.fixture
def handle() -> Handle:
    return Handle()


@pytest.fixture
def process(handle: Handle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Process:
    """A trial that was handed over."""
    job = Job("beta=0.1", tmp_path, ("train", "beta=0.1"), 4, "settings", False)

    def submit(trial: RemoteTrial) -> Handle:
        assert (trial.arguments, trial.where, trial.log) == (job.arguments, str(Path.cwd()), job.log)
        assert trial.unwanted == tmp_path / "trial.json"
        assert trial.variables == {"SLOT": "1", "RLHF_SETTINGS": "settings"}
        return handle

    return elsewhere._start_by(submit)(job, {"SLOT": "1"})


def test_its_exit_code_is_what_it_returns(process: Process, handle: Handle) -> None:
    assert process.poll() is None
    handle.standing = 3
    assert process.poll() == 3


def test_a_disk_that_refuses_keeps_no_trial_from_ending(process: Process, handle: Handle, tmp_path: Path) -> None:
    tmp_path.rmdir()
    handle.standing = RuntimeError("the node is gone")
    assert process.poll() == 1
    process.send_signal(signal.SIGTERM)
    assert process.poll() == -signal.SIGTERM


def test_what_goes_wrong_around_it_is_in_its_log(process: Process, handle: Handle, tmp_path: Path) -> None:
    handle.standing = RuntimeError("the node is gone\nand more")
    assert process.poll() == 1
    assert (tmp_path / "log.txt").read_text() == "RuntimeError: the node is gone\n"


def test_a_file_asks_it_to_stop(process: Process, handle: Handle, tmp_path: Path) -> None:
    process.send_signal(signal.SIGTERM)
    assert Ending.read(tmp_path) == Ending(75, "asked to stop")
    assert process.poll() is None
    handle.standing = RuntimeError("cancelled")
    assert process.poll() == -signal.SIGTERM


def test_one_that_waits_is_taken_back(process: Process, handle: Handle) -> None:
    handle.waits = True
    process.send_signal(signal.SIGTERM)
    assert process.poll() == -signal.SIGTERM


def test_our_own_launcher_starts_processes(tmp_path: Path) -> None:
    with elsewhere.starter(Launcher(), tmp_path, 1) as start:
        assert start is start_process


@pytest.mark.slow
def test_joblib_starts_as_many_as_it_may(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    with elsewhere.starter(Joblib(), tmp_path, 1) as start:
        (tmp_path / "trial.json").touch()  # unwanted: no process of `rlhf` is begun
        process = start(Job("a", tmp_path, (), 1, "", False), {})
        while (code := process.poll()) is None:
            pass
        assert code == 75
