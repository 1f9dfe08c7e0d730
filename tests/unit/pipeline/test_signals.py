"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from rlhf_cli.errors import EXIT_STOPPED, Stopped
from rlhf_cli.pipeline.signals import StopSignals

BOTH = pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])


@BOTH
def test_a_signal_stops_the_run_where_it_stands(number: signal.Signals, name: str) -> None:
    signals, reached = StopSignals(), []

    def work() -> None:
        with signals.installed():
            reached.append("before")
            signal.raise_signal(number)
            reached.append("after")

    with pytest.raises(Stopped) as caught:
        work()
    assert caught.value.reason == name
    assert reached == ["before"]


@BOTH
def test_what_must_not_be_torn_is_finished_first(number: signal.Signals, name: str) -> None:
    signals, reached = StopSignals(), []

    def work() -> None:
        with signals.installed():
            with signals.held():
                signal.raise_signal(number)
                reached.append("inside")
            reached.append("after")

    with pytest.raises(Stopped) as caught:
        work()
    assert caught.value.reason == name
    assert reached == ["inside"]


def test_without_a_signal_nothing_is_raised() -> None:
    signals = StopSignals()
    with signals.installed(), signals.held():
        pass


def test_an_error_inside_is_not_hidden_by_a_signal() -> None:
    signals = StopSignals()

    def work() -> None:
        with signals.installed(), signals.held():
            signal.raise_signal(signal.SIGTERM)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()


@pytest.mark.parametrize("stopped", [True, False])
def test_the_former_handlers_come_back(stopped: bool) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    signals = StopSignals()
    try:
        with signals.installed():
            assert [signal.getsignal(number) for number in numbers] == [signals._receive] * 2
            if stopped:
                signal.raise_signal(signal.SIGTERM)
    except Stopped:
        pass
    assert [signal.getsignal(number) for number in numbers] == before


def test_the_second_signal_leaves_at_once() -> None:
    code = (
        "import signal\nfrom rlhf_cli.pipeline.signals import StopSignals\nfrom rlhf_cli.errors import Stopped\n"
        "signals = StopSignals()\n"
        "with signals.installed():\n"
        "    try:\n        signal.raise_signal(signal.SIGTERM)\n"
        "    except Stopped:\n        print('saving', flush=True)\n        signal.raise_signal(signal.SIGINT)\n"
        "    print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (EXIT_STOPPED, "saving\n", "")


def test_one_signal_that_waits_and_one_more_leave_at_once() -> None:
    code = (
        "import signal\nfrom rlhf_cli.pipeline.signals import StopSignals\n"
        "signals = StopSignals()\n"
        "with signals.installed(), signals.held():\n"
        "    signal.raise_signal(signal.SIGTERM)\n    print('held', flush=True)\n"
        "    signal.raise_signal(signal.SIGTERM)\n    print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (EXIT_STOPPED, "held\n")
