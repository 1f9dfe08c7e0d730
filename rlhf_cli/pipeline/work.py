"""Time the stages, show their progress, stop them, and fit their microbatches into memory."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

import torch
from torch.profiler import record_function

from rlhf_cli.engine.cpu import SpareThreads
from rlhf_cli.errors import UserError
from rlhf_cli.models.memory import is_out_of_memory
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.plural import plural
from rlhf_cli.reporter import Reporter

Result = TypeVar("Result")

PHASES: Final = ("rollout", "reward", "reference", "update", "checkpoint")
"""Phases of every lap of `rlhf train`, even where they took no time; others appear where they occurred."""


class Clock:
    """Count seconds by phase, from its creation on; `now` gives seconds that only grow.

    The phases of `every` lap are counted even where they took no time.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter, every: Sequence[str] = PHASES) -> None:
        self._now, self._every = now, every
        self._lap = now()
        self._phases: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time inside the block to the phase; phases do not nest."""
        start = self._now()
        try:
            yield
        finally:
            self._phases[name] = self._phases.get(name, 0.0) + self._now() - start

    def lap(self) -> dict[str, float]:
        """End a lap: seconds of each phase since the last one, of `other` work, and of the whole `step`, their sum."""
        end, phases = self._now(), self._phases
        total, self._lap, self._phases = end - self._lap, end, {}
        return dict.fromkeys(self._every, 0.0) | phases | {"other": total - sum(phases.values()), "step": total}


@dataclass(slots=True)
class Work:
    """Timing, progress, stop checks and out-of-memory-safe microbatches of a stage."""

    microbatch_size: int
    """Completions that go through the model at once: as configured, or fewer once the memory has run out."""
    reporter: Reporter
    signals: StopSignals
    clock: Clock = field(default_factory=Clock)
    threads: SpareThreads | None = None
    """Room for other programs, made by working with fewer threads; None: their number stays."""

    @contextmanager
    def phase(self, name: str, ticks: int) -> Iterator[Callable[[], None]]:
        """Time a stretch of work and show it; it can be stopped at every tick and at its end."""
        with self.clock.phase(name), record_function(name), self.reporter.phase(name, ticks) as shown:

            def tick() -> None:
                shown()
                self.signals.check()
                if self.threads is not None:
                    self.threads.adapt()

            yield tick
        self.signals.check()

    def fitting(self, work: Callable[[int], Result]) -> Result:
        """Call `work` with a microbatch size; halve the size, for good, while memory runs out.

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
            halved = plural(size // 2, "completion")
            self.reporter.note(f"out of memory: microbatches of {halved} from here on, not of {size}")
