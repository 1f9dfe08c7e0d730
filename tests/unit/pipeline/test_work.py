"""Where the time goes: phases, what lies between them, and the whole."""

from __future__ import annotations

import pytest

from rlhf_cli.pipeline.work import Clock


class Watch:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def test_a_lap_is_its_phases_and_the_rest() -> None:
    watch = Watch()
    clock = Clock(watch)
    watch.time += 1  # before any phase
    for seconds in (4, 8):  # the same phase twice adds up
        with clock.phase("rollout"):
            watch.time += seconds
    with clock.phase("evaluation"):
        watch.time += 16
    watch.time += 2
    assert clock.lap() == {
        "rollout": 12.0,
        "reward": 0.0,
        "reference": 0.0,
        "update": 0.0,
        "checkpoint": 0.0,
        "evaluation": 16.0,
        "other": 3.0,
        "step": 31.0,
    }


def test_a_lap_begins_where_the_last_one_ended() -> None:
    watch = Watch()
    clock = Clock(watch)
    with clock.phase("update"):
        watch.time += 5
    clock.lap()
    watch.time += 7
    with clock.phase("reward"):
        watch.time += 1
    lap = clock.lap()
    assert (lap["update"], lap["reward"], lap["other"], lap["step"]) == (0.0, 1.0, 7.0, 8.0)
    assert "evaluation" not in lap


def test_a_phase_that_fails_took_its_time() -> None:
    watch = Watch()
    clock = Clock(watch)

    def update() -> None:
        with clock.phase("update"):
            watch.time += 3
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        update()
    assert clock.lap()["update"] == 3.0
