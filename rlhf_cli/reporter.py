"""What the pipeline tells whoever is watching; the display implements it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from rlhf_cli.evaluation.optimum import Optimum


class Reporter(Protocol):
    """The watcher's side of a run."""

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...

    def phase(self, name: str, ticks: int) -> AbstractContextManager[Callable[[], None]]:
        """A stretch of work that takes a while; call the result after each of its (at most) `ticks` parts."""
        ...

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """The policy was evaluated before its first step."""
        ...

    def optimum(self, step: int, found: Optimum) -> None:
        """How far the evaluation that was just shown is towards the optimum."""
        ...

    def step(
        self, step: int, metrics: Mapping[str, float], timings: Mapping[str, float], sample: tuple[str, str]
    ) -> None:
        """A step is complete; `sample` is a prompt and its completion."""
        ...
