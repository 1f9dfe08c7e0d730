"""How a run's work is done: timed, shown, stopped where it may be, and in microbatches that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch.profiler import record_function

from rlhf_cli.engine.memory import is_out_of_memory
from rlhf_cli.errors import UserError
from rlhf_cli.pipeline.clock import Clock
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.reporter import Reporter

Result = TypeVar("Result")


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
