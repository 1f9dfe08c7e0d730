"""The process of a function: it starts, answers within its time, and always ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf_cli.errors import Stopped
from rlhf_cli.rewards.execution import process
from tests.support import gone
from tests.unit.rewards.execution.support import TEXTS, Opened, ask, refused


def test_a_stop_is_heard_while_it_hangs_and_takes_its_children_along(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # what it prints is in the log all the same
    source = opened(
        """
        import os, subprocess
        def f(completions):
            child = subprocess.Popen(["sleep", "99"])
            print(os.getpid(), child.pid)
            child.wait()
        """
    )
    log, start = tmp_path / "reward.log", time.monotonic()

    def stop() -> None:
        if log.read_text().endswith("\n"):
            raise Stopped("SIGTERM")

    with pytest.raises(Stopped):
        ask(source, tick=stop)
    assert time.monotonic() - start < 20  # of 99
    assert all(gone(int(pid)) for pid in log.read_text().split())


def test_a_child_that_holds_the_pipes_does_not_hide_the_end(opened: Opened) -> None:
    source = opened(
        """
        import os, time
        def f(completions):
            os.fork() or time.sleep(99)
            os._exit(5)
        """,
        retries=0,
    )
    start = time.monotonic()
    assert "ended its process with exit code 5" in refused(lambda: ask(source))
    assert time.monotonic() - start < 20  # of 99


def test_a_function_that_closes_our_pipes(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_S", 0.1)
    code = "import os, time\ndef f(completions):\n    os.closerange(3, 99)\n    time.sleep(99)"
    source = opened(code, retries=0)
    assert "closed the pipe of its answers" in refused(lambda: ask(source))


def test_an_answer_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r.py").write_text("def f(completions):\n    return [1.0] * len(completions)")
    monkeypatch.setattr(process, "LARGEST_REPLY", 2**20)
    worker = process.RewardProcess(f"{tmp_path}/r.py:f", None, 5.0, None)
    worker.start(lambda: None)
    with pytest.raises(process.CallFailed, match=r"^answered with more than 1 MiB$"):
        worker.call({"completions": ["a"] * 300_000}, 300_000, 0, lambda: None)  # five bytes each
    worker.close()


@pytest.mark.parametrize("on_error", ["stop", "mask"])
def test_a_file_that_changed_is_not_taken_over_when_it_starts_anew(
    on_error: str, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)

    def write(text: str) -> None:
        file.write_text(text)
        os.utime(file, (1e9, 1e9))  # in the same second, as Python's cache of compiled files sees it

    code = """
        import os
        def f(completions):
            "ccc" in completions and os._exit(1)
            return [1] * len(completions)
    """
    source, file = opened(code, on_error=on_error, retries=0), tmp_path / "rewards.py"
    assert ask(source, TEXTS[:2]).scores == [1.0, 1.0]
    before = file.read_text()
    write(before.replace("[1]", "[2]"))
    assert ask(source, TEXTS[:2]).scores == [1.0, 1.0]  # of the process that there is
    fix = "bring it back, or resume with resume_allow=[reward]"
    changed = f"rewards.py:f changed while the run was going (step 3); fix: {fix}"
    assert refused(lambda: ask(source)) == changed
    assert refused(lambda: ask(source, TEXTS[:2])) == changed
    write(before)
    assert ask(source, TEXTS[:2]).scores == [1.0, 1.0]


def test_what_it_prints_goes_to_the_log_and_it_reads_nothing(opened: Opened, tmp_path: Path) -> None:
    code = "import sys\nprint('imported')\ndef f(completions):\n    print('called', sys.stdin.read(), sys.argv[1:])\n"
    ask(opened(f"{code}    os = print('err', file=sys.stderr)\n    return [0] * 4"))
    assert (tmp_path / "reward.log").read_text() == "imported\ncalled  []\nerr\n"


def test_much_text_goes_through(opened: Opened) -> None:
    source = opened("def f(completions):\n    print('x' * 300_000)\n    return [len(c) for c in completions]")
    assert ask(source, ["é" * 1_000_000] * 4).scores == [1e6] * 4


def test_nothing_is_left_open(opened: Opened) -> None:
    before = len(os.listdir("/proc/self/fd"))
    source = opened("import os\ndef f(completions):\n    os._exit(1)", on_error="value")
    ask(source)
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    source.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_it_leaves_in_order_and_its_children_are_ended(opened: Opened, tmp_path: Path) -> None:
    source = opened(
        """
        import atexit, os, subprocess
        atexit.register(print, "left in order")
        child = subprocess.Popen(["sleep", "99"])
        def f(completions):
            print(os.getpid(), child.pid)
            return [0] * 4
        """
    )
    ask(source)
    source.close()
    pids, left = (tmp_path / "reward.log").read_text().splitlines()
    assert left == "left in order"
    assert all(gone(int(pid)) for pid in pids.split())


def test_one_that_does_not_leave_is_killed(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_S", 0.1)
    source = opened("import atexit, time\natexit.register(time.sleep, 99)\ndef f(completions):\n    return [0] * 4")
    start = time.monotonic()
    source.close()
    assert time.monotonic() - start < 20  # of 99


@pytest.mark.case(70)
@pytest.mark.parametrize(
    "line",
    [
        "import re; re.match(r'(a|a)+$', 'a' * 60 + 'b')",  # no other thread can run meanwhile
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(999)",
        "return [0]",
    ],
)
def test_it_ends_with_its_parent_however_that_ends(line: str, tmp_path: Path) -> None:
    (tmp_path / "r.py").write_text(
        "import os, subprocess, time\n"
        "def f(completions):\n"
        "    print(os.getpid(), subprocess.Popen(['sleep', '999']).pid)\n"
        f"    {line}"
    )
    log = tmp_path / "log"
    code = (
        "import sys, time; from pathlib import Path; from rlhf_cli.rewards.execution.process import RewardProcess\n"
        "worker = RewardProcess(sys.argv[1], None, 60.0, Path(sys.argv[2]))\n"
        "worker.start(lambda: None)\n"
        "worker.call({'completions': ['a']}, 1, 0, lambda: None)\n"
        "time.sleep(999)"
    )
    with subprocess.Popen([sys.executable, "-c", code, f"{tmp_path}/r.py:f", str(log)]) as parent:
        while not (log.is_file() and log.read_text().endswith("\n")):
            assert parent.poll() is None
            time.sleep(0.01)
        pids = [int(pid) for pid in log.read_text().split()]
        parent.kill()
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


def test_hash_seed_encoding_locale_and_time_zone_are_the_same_everywhere(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PYTHONHASHSEED": "7", "PYTHONUTF8": "0", "LC_ALL": "C", "TZ": "Asia/Tokyo"}.items():
        monkeypatch.setenv(name, value)
    source = opened(
        """
        import locale, sys, time
        def f(completions):
            locale.setlocale(locale.LC_ALL, "")
            is_utf8 = locale.getpreferredencoding() == "utf-8"
            return [hash("a") % 2**40, is_utf8, time.localtime(0).tm_hour, sys.flags.hash_randomization]
        """
    )
    expected = subprocess.run(
        [sys.executable, "-c", "print(hash('a') % 2**40)"], env={"PYTHONHASHSEED": "0"}, capture_output=True, check=True
    )
    assert list(ask(source).scores) == [float(expected.stdout), 1.0, 0.0, 0.0]
