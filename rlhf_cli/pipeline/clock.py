"""Where a run's time goes: the phases between two lines of timings.jsonl, by one clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

PHASES: Final = ("rollout", "reward", "reference", "update", "checkpoint")
"""What every lap has, even where it took no time; others are there where they occurred."""


class Clock:
    """Runs from the start; `now` gives seconds that only grow."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._lap = now()
        self._phases: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside as `name`'s, on top of what it has; phases do not nest."""
        start = self._now()
        try:
            yield
        finally:
            self._phases[name] = self._phases.get(name, 0.0) + self._now() - start

    def lap(self) -> dict[str, float]:
        """The seconds of each phase since the last lap, of everything `other`, and of the whole `step`, their sum."""
        end, phases = self._now(), self._phases
        total, self._lap, self._phases = end - self._lap, end, {}
        return dict.fromkeys(PHASES, 0.0) | phases | {"other": total - sum(phases.values()), "step": total}
