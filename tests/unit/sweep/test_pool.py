"""Processes side by side: how many, with what, and what is said of each one's end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from rlhf_cli.errors import Stopped
from rlhf_cli.sweep import pool
from rlhf_cli.sweep.pool import Job, Pool, Standing, explain_exit
from rlhf_cli.sweep.record import Ending

BEHAVES = """
import os, signal, sys, time
given = [os.environ.get(name) for name in ("SLOT", "RLHF_SWEEP", "RLHF_SETTINGS")]
place = "leads" if os.getsid(0) == os.getpid() else "follows"
print("slot", given[0], "of", *given[1:], place, "began", time.monotonic(), flush=True)
kind = sys.argv[1]
if kind == "slow":
    time.sleep(0.5)
if kind == "deaf":
    time.sleep(60)
if kind == "waits":
    signal.signal(signal.SIGTERM, lambda *_: (print("stopped: SIGTERM", flush=True), os._exit(75)))
    time.sleep(60)
if kind == "refused":
    print("error: no such data (data.path); fix: another", file=sys.stderr); sys.exit(3)
if kind == "crash":
    raise ZeroDivisionError("by nothing")
if kind == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if kind == "ended":
    os.kill(os.getpid(), signal.SIGTERM)
print("ended", time.monotonic(), flush=True)
"""


@pytest.fixture(autouse=True)
def behaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does what its argument says stands in for `rlhf`."""
    (tmp_path / "behaves.py").write_text(BEHAVES)
    monkeypatch.setattr(pool, "COMMAND", (sys.executable, str(tmp_path / "behaves.py")))
    monkeypatch.setattr(pool, "INTERVAL_S", 0.02)


def ignore(standings: Sequence[Standing]) -> None:
    """Shows nothing."""


def run(
    tmp_path: Path,
    *kinds: str,
    slots: int = 1,
    show: Callable[[Sequence[Standing]], None] = ignore,
    check: Callable[[], None] = lambda: None,
) -> list[Standing]:
    jobs = [
        Job(f"{number}-{kind}", tmp_path / f"{number}", (kind,), 4, "settings", kind == "done")
        for number, kind in enumerate(kinds)
    ]
    return Pool(jobs, [{"SLOT": str(number)} for number in range(slots)], show, check).run()


def test_every_end_is_told_and_none_disturbs_the_others(tmp_path: Path) -> None:
    found = run(tmp_path, "fine", "refused", "crash", "killed", "ended", "fine")
    assert [(one.state, one.reason) for one in found] == [
        ("finished", None),
        ("failed", "no such data (data.path); fix: another"),
        ("failed", "crashed: ZeroDivisionError: by nothing"),
        ("failed", "killed by SIGKILL, most likely for want of memory"),
        ("failed", "killed by SIGTERM"),  # by others: the sweep asked it for nothing
        ("finished", None),
    ]
    kept = [Ending.read(one.job.folder) for one in found]
    assert [one.exit_code for one in kept if one] == [0, 3, 1, -9, -15, 0]
    assert "ZeroDivisionError" in found[2].job.log.read_text()


def spans(tmp_path: Path, count: int) -> list[tuple[float, float]]:
    words = [(tmp_path / str(number) / "log.txt").read_text().split() for number in range(count)]
    return [(float(one[one.index("began") + 1]), float(one[-1])) for one in words]


@pytest.mark.parametrize("slots", [1, 2])
def test_as_many_at_a_time_as_there_are_slots(tmp_path: Path, slots: int) -> None:
    run(tmp_path, "slow", "slow", "slow", slots=slots)
    found = spans(tmp_path, 3)
    at_once = [sum(begin <= instant < end for begin, end in found) for instant, _ in found]
    assert max(at_once) == slots


def test_a_slot_is_given_to_one_trial_at_a_time(tmp_path: Path) -> None:
    run(tmp_path, "slow", "slow", "fine", slots=2)
    words = [(tmp_path / str(number) / "log.txt").read_text().split() for number in range(3)]
    assert [one[1] for one in words[:2]] == ["0", "1"]
    assert words[2][1] in ("0", "1")
    # each in a session of its own: Ctrl-C in the terminal reaches the sweep alone
    assert {(one[3], one[4], one[5]) for one in words} == {(str(os.getpid()), "settings", "leads")}


def test_a_stop_is_passed_on_and_waits_for_the_trials_to_save(tmp_path: Path) -> None:
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += (tmp_path / "0" / "log.txt").stat().st_size > 0
        if checks > 3:
            raise Stopped("Ctrl-C")

    shown: list[list[str]] = []
    with pytest.raises(Stopped):
        run(tmp_path, "waits", "fine", check=check, show=lambda now: shown.append([one.state for one in now]))
    assert shown[-1] == ["stopped", "waiting"]
    assert Ending.read(tmp_path / "0") == Ending(75, "SIGTERM")
    assert not (tmp_path / "1").exists()


def test_a_stop_that_comes_before_the_trial_listens_is_no_failure(tmp_path: Path) -> None:
    def check() -> None:
        if (tmp_path / "0" / "log.txt").stat().st_size > 0:
            raise Stopped("Ctrl-C")

    with pytest.raises(Stopped):
        run(tmp_path, "deaf", check=check)
    assert Ending.read(tmp_path / "0") == Ending(75, "before its first step")


def test_what_is_done_is_left_alone(tmp_path: Path) -> None:
    found = run(tmp_path, "done", "fine")
    assert [(one.state, one.was_done) for one in found] == [("finished", True), ("finished", False)]
    assert not (tmp_path / "0").exists()


def test_a_folder_that_cannot_be_used_fails_its_trial_alone(tmp_path: Path) -> None:
    (tmp_path / "0").write_text("in the way")
    found = run(tmp_path, "fine", "fine")
    assert [one.state for one in found] == ["failed", "finished"]
    assert str(found[0].reason).startswith("it cannot be started: [Errno ")


def test_trials_that_another_process_works_in_wait_while_others_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    def show(standings: Sequence[Standing]) -> None:
        ended.extend(one.job.name for one in standings if one.state == "finished" and one.job.name not in ended)

    monkeypatch.setattr(pool, "is_locked", lambda folder: folder.name == "0" and "1-fine" not in ended)
    assert [one.state for one in run(tmp_path, "fine", "fine", show=show)] == ["finished", "finished"]
    assert ended == ["1-fine", "0-fine"]


def test_the_wait_for_another_process_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "is_locked", lambda folder: True)
    monkeypatch.setattr(pool, "PATIENCE_S", 0.3)
    assert run(tmp_path, "refused")[0].reason == "no such data (data.path); fix: another"


def test_only_the_last_start_is_read_of_a_log(tmp_path: Path) -> None:
    run(tmp_path, "refused")
    (found,) = run(tmp_path, "crash")
    assert found.reason == "crashed: ZeroDivisionError: by nothing"
    log = (tmp_path / "0" / "log.txt").read_text()
    assert log.index("error: no such data") < log.index("ZeroDivisionError")
    assert run(tmp_path, "fine")[0].reason is None
    assert Ending.read(tmp_path / "0") == Ending(0, "")


class Ended:
    """A process that has ended, refused."""

    def poll(self) -> int:
        """Its exit code."""
        return 3

    def send_signal(self, number: int) -> None:
        """It needs none."""


def test_a_new_log_in_a_new_folder_is_read_from_its_first_byte(tmp_path: Path) -> None:
    def start(job: Job, slot: Mapping[str, str]) -> Ended:
        job.log.write_text("error: at once\n")
        return Ended()

    job = Job("a", tmp_path / "sweep" / "a", (), 4, "settings", False)
    (found,) = Pool([job], [{}], ignore, lambda: None, start=start).run()
    assert (found.state, found.reason) == ("failed", "at once")


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (4, "warming up\nerror: the reward raised KeyError\nstep 3 is saved\n", "the reward raised KeyError"),
        (4, "", "exit code 4"),
        (1, "", "crashed"),
        (75, "stopped: time limit of 3 s\n", "time limit of 3 s"),
        (4, "error: in: the end\n" + "x" * (2**16 - 19), "in: the end"),  # 19 bytes, and no more than 64 KiB in all
        (4, "error: before the end\n" + "x" * 2**16, "exit code 4"),
        (1, "  a\n\tZeroDivisionError \n\n", "crashed: ZeroDivisionError"),
        (0, "error: of a worker\n", ""),
        (-signal.SIGSEGV, "anything", "killed by SIGSEGV"),
        (-35, "anything", "killed by signal 35"),
    ],
)
def test_why(tmp_path: Path, code: int, text: str, expected: str) -> None:
    (tmp_path / "log.txt").write_text(text)
    assert explain_exit(code, tmp_path / "log.txt", 0) == expected


def test_more_is_asked_for_where_a_process_is_free_and_each_end_is_told(tmp_path: Path) -> None:
    more = [
        Job(kind, tmp_path / kind, (kind.split("-")[0],), 4, "settings", kind == "done") for kind in
        ("slow-1", "slow-2", "done", "refused", "fine")
    ]  # fmt: skip
    told: list[str] = []
    asked_after: list[int] = []

    def ask() -> Job | None:
        if not more:
            return None
        asked_after.append(len(told))
        return more.pop(0)

    def tell(standing: Standing) -> None:
        told.append(f"{standing.job.name} {standing.state}")

    found = Pool((), [{"SLOT": "0"}, {"SLOT": "1"}], ignore, lambda: None, ask=ask, tell=tell).run()
    assert [one.state for one in found] == ["finished", "finished", "finished", "failed", "finished"]
    assert sorted(told) == ["done finished", "fine finished", "refused failed", "slow-1 finished", "slow-2 finished"]
    assert asked_after[:3] == [0, 0, asked_after[2]]
    assert asked_after[2] >= 1  # both processes were at work
