"""Processes that a function starts end with its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from rlhf_cli.rewards.execution import ending
from rlhf_cli.rewards.execution.ending import MARK, end_all, find_family
from tests.support import gone
from tests.unit.rewards.execution.support import Opened, ask


@pytest.mark.case(70)
def test_children_that_left_the_group_are_ended(opened: Opened, tmp_path: Path) -> None:
    source = opened(
        """
        import os, subprocess
        def f(completions):
            of_session = subprocess.Popen(["sleep", "99"], start_new_session=True)
            without = subprocess.Popen(["sleep", "99"], start_new_session=True, env={"PATH": os.environ["PATH"]})
            other = subprocess.Popen(["setsid", "sleep", "99"])
            print(of_session.pid, without.pid, other.pid, flush=True)
            return [0] * 4
        """
    )
    ask(source)
    source.close()
    time.sleep(0.1)
    assert all(gone(int(pid)) for pid in (tmp_path / "reward.log").read_text().split())


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The processes that would be killed."""
    seen: list[tuple[str, int]] = []

    def note(kind: str, pid: int, number: int) -> None:
        assert number == signal.SIGKILL
        seen.append((kind, pid))

    monkeypatch.setattr(os, "killpg", lambda pid, number: note("group", pid, number))
    monkeypatch.setattr(os, "kill", lambda pid, number: note("one", pid, number))
    return seen


def test_rounds_go_on_until_nobody_is_left(killed: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([{5}, {7}, set()])
    monkeypatch.setattr(ending, "find_family", lambda pid, mark: next(found))
    end_all(10**9, "mark", family={8})
    group = ("group", 10**9)
    assert sorted(killed[:3]) == [group, ("one", 5), ("one", 8)]
    assert killed[3:] == [group, ("one", 7), group]


def test_a_family_that_is_known_is_ended_where_none_is_found(
    killed: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "find_family", lambda pid, mark: set())
    end_all(os.getpgrp(), "mark", family={8})
    assert killed == [("one", 8)]  # and its own group lives on


def test_who_starts_more_than_can_be_ended_is_left_after_twenty_rounds(
    killed: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "find_family", lambda pid, mark: {5})
    end_all(os.getpgrp(), "mark")
    assert killed == [("one", 5)] * 20


def test_a_family_is_all_descendants_and_whoever_has_the_mark() -> None:
    mark = f"{os.getpid()}-of-this-test"
    child = subprocess.Popen(["sh", "-c", "sleep 60 >&2 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    marked = subprocess.Popen(["sleep", "60"], env=os.environ | {MARK: mark}, start_new_session=True)
    grandchild = 0
    try:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        until = time.monotonic() + 20
        while marked.pid not in find_family(child.pid, mark) and time.monotonic() < until:
            time.sleep(0.02)  # its environment is there a little later than itself
        assert find_family(child.pid, mark) == {child.pid, grandchild, marked.pid}
        assert find_family(grandchild, "another") == {grandchild}
        mine = find_family(os.getpid(), "another")
        assert {child.pid, grandchild, marked.pid} <= mine
        assert os.getpid() not in mine
    finally:
        if grandchild:
            os.kill(grandchild, signal.SIGKILL)
        for process in (marked, child):
            process.kill()
            process.communicate()
    assert find_family(child.pid, mark) == set()
