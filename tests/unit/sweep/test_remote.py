"""A trial in a worker: its process gets what it needs, ends when asked to, and saves before its job is over."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlhf_cli.sweep import pool, remote
from rlhf_cli.sweep.remote import RemoteTrial

BEHAVES = """
import os, signal, sys, time
print("in", os.getcwd(), *(os.environ.get(name) for name in ("SLOT", "RLHF_SWEEP")), flush=True)
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda got, _: (print("got", got, flush=True), os._exit(75)))
if sys.argv[1] == "saves":
    signal.signal(signal.SIGTERM, lambda got, _: print("got", got, flush=True))
print("ready", flush=True)
if sys.argv[1] == "saves":
    time.sleep(0.5)
    sys.exit(75)
if sys.argv[1] == "waits":
    time.sleep(60)
sys.exit(int(sys.argv[1]))
"""

Make = Callable[[str], RemoteTrial]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A trial whose process does what its argument says."""
    (tmp_path / "behaves.py").write_text(BEHAVES)
    monkeypatch.setattr(pool, "COMMAND", (sys.executable, str(tmp_path / "behaves.py")))
    monkeypatch.setattr(remote, "POLL_S", 0.01)
    (tmp_path / "where").mkdir()
    return lambda kind: RemoteTrial(
        (kind,), str(tmp_path / "where"), tmp_path / "log.txt", tmp_path / "trial.json", {"SLOT": "7"}
    )


def once_ready(tmp_path: Path, act: Callable[[], object]) -> threading.Thread:
    def wait() -> None:
        until = time.monotonic() + 20
        while "ready" not in (tmp_path / "log.txt").read_text() and time.monotonic() < until:
            time.sleep(0.01)
        act()

    (tmp_path / "log.txt").touch()
    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_its_exit_code_is_returned(make: Make, tmp_path: Path) -> None:
    assert pickle.loads(pickle.dumps(make("3")))() == 3
    assert (tmp_path / "log.txt").read_text() == f"in {tmp_path / 'where'} 7 {os.getpid()}\nready\n"


def test_it_ends_when_it_is_no_longer_wanted(make: Make, tmp_path: Path) -> None:
    thread = once_ready(tmp_path, (tmp_path / "trial.json").touch)
    assert make("waits")() == 75
    thread.join()
    assert (tmp_path / "log.txt").read_text().splitlines()[-1] == "got 15"
    assert make("0")() == 75  # and does not begin


def test_it_is_asked_once_while_it_saves(make: Make, tmp_path: Path) -> None:
    thread = once_ready(tmp_path, (tmp_path / "trial.json").touch)
    assert make("saves")() == 75
    thread.join()
    assert (tmp_path / "log.txt").read_text().count("got 15") == 1


def test_ctrl_c_asks_it_to_end(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if "ready" in (tmp_path / "log.txt").read_text():
            raise KeyboardInterrupt

    monkeypatch.setattr(remote, "time", SimpleNamespace(sleep=sleep))
    assert make("waits")() == 75
    assert (tmp_path / "log.txt").read_text().splitlines()[-1] == "got 15"


def test_it_saves_before_the_time_is_up(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helpers = SimpleNamespace(DelayedSubmission=lambda function: ("again", function))
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(helpers=helpers))
    monkeypatch.setitem(sys.modules, "submitit.helpers", helpers)
    trial, found = make("waits"), []
    thread = once_ready(tmp_path, lambda: found.append(trial.checkpoint()))
    assert trial() == 75
    thread.join()
    assert (tmp_path / "log.txt").read_text().splitlines()[-1] == "got 10"
    assert found == [("again", trial)]
    assert pickle.loads(pickle.dumps(found[0][1])) == make("waits")


def test_it_ends_with_what_started_its_worker(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parents = iter([1])
    monkeypatch.setattr(os, "getppid", lambda: next(parents, 2))
    assert make("waits")() in (75, -15)  # it may not listen yet
