"""Ctrl-C, SIGTERM, SIGUSR1 and the time limit."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rlhf_cli.errors import EXIT_INTERRUPTED, EXIT_STOPPED, Stopped
from rlhf_cli.pipeline.signals import StopSignals

EACH = pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP"), (signal.SIGUSR1, "SIGUSR1")],
)


@pytest.fixture(autouse=True)
def nothing_is_ignored() -> Iterator[None]:
    """Behind nohup SIGHUP is ignored, and a run leaves it so."""
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, former)


@EACH
def test_a_signal_stops_the_run_where_it_asks(number: signal.Signals, name: str) -> None:
    signals, reached = StopSignals(), []

    def work() -> None:
        with signals.installed(), signals.polled():
            signals.check()
            signal.raise_signal(number)
            reached.append("what was under way is finished")
            signals.check()
            reached.append("and nothing after it")

    with pytest.raises(Stopped) as caught:
        work()
    assert caught.value.reason == name
    assert reached == ["what was under way is finished"]


def test_it_is_raised_once_so_that_the_last_step_can_be_saved() -> None:
    signals = StopSignals()
    with signals.installed(), signals.polled():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped):
            signals.check()
        signals.check()


@pytest.mark.parametrize("stopped", [True, False])
def test_the_former_handlers_come_back(stopped: bool) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    signals = StopSignals()
    try:
        with signals.installed():
            assert [signal.getsignal(number) for number in numbers] == [signals._receive] * 4
            if stopped:
                signal.raise_signal(signal.SIGTERM)
    except Stopped:
        pass
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize(("stopping", "resumable"), [(True, True), (False, False)])
def test_the_second_signal_leaves_at_once(stopping: bool, resumable: bool) -> None:
    code = (
        "import signal, time\nfrom rlhf_cli.pipeline.signals import StopSignals\nfrom rlhf_cli.errors import Stopped\n"
        f"signals = StopSignals()\nsignals.is_resumable = lambda: {resumable}\n"
        "with signals.installed(), signals.polled():\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        f"    try:\n        {stopping} and signals.check()\n"
        "    except Stopped:\n        print('saving', flush=True)\n"
        "    signal.raise_signal(signal.SIGTERM)\n"  # the same one, by another way
        "    time.sleep(0.35)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    code_of_exit = EXIT_STOPPED if resumable else EXIT_INTERRUPTED
    assert (done.returncode, done.stdout, done.stderr) == (code_of_exit, "saving\n" * stopping, "")


@EACH
def test_where_nothing_is_polled_it_is_raised_at_once(number: signal.Signals, name: str) -> None:
    signals = StopSignals()
    with signals.installed():
        with signals.polled():
            pass
        with pytest.raises(Stopped, match=name):
            signal.raise_signal(number)


def test_a_time_limit_stops_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("rlhf_cli.pipeline.signals.time.monotonic", lambda: clock[0])
    signals = StopSignals(time_limit=60.0, since=100.0)
    clock[0] = 159.9
    signals.check()
    clock[0] = 160.0
    with pytest.raises(Stopped, match=r"^time limit of 60 s$"):
        signals.check()
    signals.check()  # the last step can be saved now


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals().installed():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stop_that_was_swallowed_is_raised_at_the_next_check() -> None:
    signals = StopSignals()
    with signals.installed():
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
        with signals.polled(), pytest.raises(Stopped, match="SIGTERM"):
            signals.check()
