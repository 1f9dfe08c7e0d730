"""A thread is taken away where threads wait for cores, and added where cores stand idle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from rlhf_cli.engine import cpu
from rlhf_cli.engine.cpu import Load, SpareThreads, read_load, spare_threads


@dataclass
class Machine:
    """A clock, and a load that grows as the test says."""

    time: float = 0.0
    load: Load = field(default_factory=lambda: Load(0.0, 0.0))

    def goes_on(self, seconds: float, *, waited: float, idle: float) -> None:
        """Let time pass with these seconds of waiting and of idle cores."""
        self.time += seconds
        self.load = Load(self.load.waited + waited, self.load.idle + idle)


@pytest.fixture
def machine() -> Iterator[Machine]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield Machine()
    torch.set_num_threads(before)


def test_threads_follow_the_load(machine: Machine) -> None:
    threads = SpareThreads(3, lambda: machine.load, lambda: machine.time)
    found = []
    steps = (
        (0.0, 0.0, 3),
        (0.26, 0.0, 2),
        (0.6, 0.65, 2),  # cores were idle for longer: threads that slept were woken
        (0.26, 0.25, 1),
        (0.5, 0.0, 1),
        (0.2, 0.69, 1),
        (0.2, 0.71, 2),
        (0.0, 2.0, 3),
        (0.0, 2.0, 3),
    )
    for waited, idle, _ in steps:
        machine.goes_on(1.0, waited=waited, idle=idle)
        threads.adapt()
        found.append(torch.get_num_threads())
    assert found == [number for _, _, number in steps]


def test_a_look_is_not_taken_too_often_and_shares_are_of_the_time_since_the_last(machine: Machine) -> None:
    threads = SpareThreads(3, lambda: machine.load, lambda: machine.time)
    machine.goes_on(0.49, waited=0.49, idle=0.0)
    threads.adapt()
    assert torch.get_num_threads() == 3
    machine.goes_on(1.51, waited=0.0, idle=0.0)  # 0.49 of 2 seconds
    threads.adapt()
    assert torch.get_num_threads() == 3
    machine.goes_on(1.0, waited=0.3, idle=0.0)
    threads.adapt()
    assert torch.get_num_threads() == 2


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the load is read on Linux")
def test_the_load_grows() -> None:
    before = read_load()
    until = sum(range(3_000_000))  # work for this process
    after = read_load()
    assert until
    assert after.waited >= before.waited >= 0.0
    assert after.idle >= before.idle > 0.0


def test_where_there_is_nothing_to_choose_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spare_threads(1) is None

    def refuse() -> Load:
        raise FileNotFoundError("/proc/stat")

    monkeypatch.setattr(SpareThreads.__init__, "__defaults__", (refuse, cpu.time.monotonic))
    assert spare_threads(2) is None
