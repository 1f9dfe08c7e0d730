"""Work: timing, progress, stop checks and out-of-memory-safe microbatches of a stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

import torch
from torch.profiler import record_function

from rlhf_cli.engine.memory import is_out_of_memory
from rlhf_cli.errors import UserError
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.reporter import Reporter

Result = TypeVar("Result")

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


@dataclass(slots=True)
class Work:
    """What every stage of a step is done by."""

    microbatch_size: int
    """Completions that go through the model at once: as configured, or fewer once the memory has run out."""
    reporter: Reporter
    signals: StopSignals
    clock: Clock = field(default_factory=Clock)

    @contextmanager
    def phase(self, name: str, ticks: int) -> Iterator[Callable[[], None]]:
        """Time a stretch of work and show it; with every tick, and at its end, it may be stopped."""
        with self.clock.phase(name), record_function(name), self.reporter.phase(name, ticks) as shown:

            def tick() -> None:
                shown()
                self.signals.check()

            yield tick
        self.signals.check()

    def parts(self, completions: int) -> int:
        """How many microbatches so many completions are."""
        return -(-completions // self.microbatch_size)

    def fitting(self, work: Callable[[int], Result]) -> Result:
        """What `work` makes of microbatches of the size it is given: halved, for good, while they do not fit in memory.

        Raises UserError where not even one completion fits.
        """
        while True:
            size = self.microbatch_size
            try:
                return work(size)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise UserError(
                        "out of memory with one completion at a time",
                        where="microbatch_size",
                        fix="lower max_new_tokens or data.max_prompt_tokens, or take a smaller model",
                    ) from error
            # outside of the except block: the traceback holds the tensors that did not fit
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.microbatch_size = size // 2
            self.reporter.note(f"out of memory: microbatches of {size // 2} completions from here on, not of {size}")
