"""Audit a run: find its stretches, choose some at random, and say how likely that finds a run that was changed.

A stretch leads from one checkpoint that is still there to the next; the first one leads from the settings to the first
checkpoint. Each checkpoint holds the SHA-256 of every log up to its step, which chains the logs together. Whoever
changes all of these hashes as well still cannot make a stretch repeat.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from rlhf_cli.runs.checkpoint import step_of
from rlhf_cli.verify.repeat import Verdict

CHANGED: Final = 0.1
"""The share of the steps that `chance` supposes to be changed."""
WANTED: Final = 0.99
"""The chance that `count_needed` reaches."""
COST: Final = 0.05
"""The share of the stretches that is repeated where nobody says how many."""


@dataclass(frozen=True, slots=True)
class Span:
    """The place of a stretch in a run."""

    older: Path | None
    """The checkpoint that it begins at; None: the settings alone."""
    newer: Path

    @property
    def steps(self) -> int:
        """Number of steps."""
        return step_of(self.newer) - (step_of(self.older) if self.older else 0)


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit: changed files, repeated stretches, and the chance to find a change."""

    steps: int
    """The step of the newest checkpoint."""
    stretches: int
    """The number of all that could be repeated."""
    files: Mapping[str, str]
    """Files that are not what the run wrote, each with the reason."""
    repeated: Sequence[Verdict]
    chance: float
    """The chance of finding a run of which a tenth of the steps were changed, in [0, 1]."""
    needed: int
    """Stretches that raise the chance to 99 %."""
    seed: int
    """The seed that chose the stretches."""

    @property
    def repeated_steps(self) -> int:
        """Steps of all stretches that were repeated."""
        return sum(verdict.last - verdict.first + 1 for verdict in self.repeated)

    @property
    def is_clean(self) -> bool:
        """Whether every file is the run's and every repeated stretch is identical."""
        return not self.files and all(verdict.divergence is None for verdict in self.repeated)


def find_spans(checkpoints: Sequence[Path], *, from_start: bool) -> list[Span]:
    """Find the stretches between valid checkpoints, oldest first.

    `from_start`: the first stretch begins at the settings, and includes the evaluation of step 0. A fork begins at a
    checkpoint of its parent's instead.
    """
    newer = sorted(checkpoints, key=step_of)
    if not from_start:
        return [Span(*pair) for pair in pairwise(newer)]
    newer = [path for path in newer if step_of(path) > 0]
    return [Span(older, path) for older, path in zip([None, *newer], newer, strict=False)]


def choose(spans: Sequence[Span], count: int | None, seed: int) -> list[Span]:
    """Choose `count` stretches at random, all equally likely, in their order; None: a twentieth, but at least one."""
    count = max(1, math.floor(COST * len(spans))) if count is None else count
    chosen = random.Random(seed).sample(range(len(spans)), min(count, len(spans)))
    return [spans[i] for i in sorted(chosen)]


def chance(spans: Sequence[Span], count: int) -> float:
    """The chance that `count` stretches, chosen at random, meet a changed one, in [0, 1].

    A tenth of the steps is supposed to be changed, all in the longest stretches: the changes that are hardest to meet.
    Hypergeometric: 1 - C(n - m, count) / C(n, count), with m of the n stretches changed.
    """
    least, steps = CHANGED * sum(span.steps for span in spans), 0
    changed = 0
    for length in sorted((span.steps for span in spans), reverse=True):
        if steps >= least:
            break
        steps, changed = steps + length, changed + 1
    return 1 - math.comb(len(spans) - changed, count) / math.comb(len(spans), count)


def count_needed(spans: Sequence[Span]) -> int:
    """The smallest number of stretches whose chance is 99 %; 0 without any, as in a fork that kept one checkpoint."""
    return next((count for count in range(1, len(spans) + 1) if chance(spans, count) >= WANTED), 0)
