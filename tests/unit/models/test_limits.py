"""What runs in bounds stops at them, and leaves alarms and limits as it found them."""

from __future__ import annotations

import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import pytest

from rlhf_cli.models.limits import LimitExceeded, limit, time_limit

linux = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="no RLIMIT_AS to speak of")


@pytest.fixture(autouse=True)
def as_found() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL), memory_limit()
    yield
    assert (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL), memory_limit()) == before


def memory_limit() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_AS)


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_what_stays_inside_is_left_alone() -> None:
    with limit(5, 512):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 4
        assert len(bytearray(2**20)) == 2**20
    spin(0.01)


def test_too_much_time() -> None:
    start = time.monotonic()
    with pytest.raises(LimitExceeded, match=r"^takes more than 0.1 s$"), limit(0.1, 512):
        spin(60)
    assert 0.1 <= time.monotonic() - start < 5


def test_a_time_below_the_clocks_unit_is_a_limit_too() -> None:
    with pytest.raises(LimitExceeded, match="takes more than 1e-08 s"), time_limit(1e-8):
        time.sleep(5)


def test_what_swallows_the_first_alarm_hears_the_next() -> None:
    class Deaf:
        def __del__(self) -> None:
            spin(0.15)  # an exception in here is only reported

    def reported(unraisable: object) -> None:
        heard.append(unraisable)

    def work() -> None:
        Deaf()
        spin(60)

    heard: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.unraisablehook", reported)
        with pytest.raises(LimitExceeded), limit(0.1, 512):
            work()
    assert len(heard) == 1


def test_an_exception_for_a_reason_to_go_on_does_not_swallow_it() -> None:
    """As jinja's constant folding does."""

    def work() -> None:
        with suppress(Exception):
            spin(0.9)
        spin(0.9)

    start = time.monotonic()
    with pytest.raises(LimitExceeded), limit(0.4, 512):
        work()
    assert time.monotonic() - start < 0.75  # the second alarm would ring at 0.8


@linux
def test_too_much_memory() -> None:
    with pytest.raises(LimitExceeded, match=r"^takes more than 64 MiB$"), limit(60, 64):
        bytearray(2**35)  # more than the process may have kept of what earlier tests gave back
    with limit(60, 2048):
        bytearray(2**30)


@linux
def test_a_lower_limit_stays() -> None:
    soft, hard = memory_limit()
    low = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + 2**26
    resource.setrlimit(resource.RLIMIT_AS, (low, hard))
    try:
        with limit(5, 512):
            assert memory_limit() == (low, hard)
        assert memory_limit() == (low, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_other_exceptions_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), limit(5, 512):
        raise ZeroDivisionError


def test_a_former_alarm_still_rings_when_it_was_to() -> None:
    rung: list[float] = []

    def ring(number: int, frame: FrameType | None) -> None:
        rung.append(time.monotonic() - start)

    former = signal.signal(signal.SIGALRM, ring)
    start = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with limit(5, 512):
            spin(0.1)
        left = signal.getitimer(signal.ITIMER_REAL)[0]
        spin(0.4)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert 0.1 < left < 0.21  # 0.3 less the 0.1 that have gone by
    assert len(rung) == 1


def test_another_thread_has_its_memory_bounded_alone() -> None:
    inside: list[tuple[float, float]] = []

    def work() -> None:
        with limit(0.01, 512):
            spin(0.05)
            inside.append(signal.getitimer(signal.ITIMER_REAL))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [(0.0, 0.0)]
