"""The course of a run, as its rules read it: the first and the newest steps, and three evaluations."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from rlhf_cli.evaluation.evaluation import Evaluation

START: Final = 5
"""Steps whose mean is the start of a run."""
WINDOW: Final = 10
"""Steps whose mean is its present state."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Concern:
    """A fault that a rule sees at present."""

    evidence: str
    """Numbers, without the step."""
    override: str
    """The setting to try."""


@dataclass(frozen=True, slots=True)
class Change:
    """The difference between the newest steps and the first."""

    before: float
    after: float
    error: float
    """Standard error of the difference, over prompts."""

    @property
    def gain(self) -> float:
        """The newest value less the first."""
        return self.after - self.before

    @property
    def z(self) -> float:
        """The gain in standard errors."""
        return _in_errors(self.gain, self.error)


@dataclass(frozen=True, slots=True)
class Trend:
    """The straight line through all values so far, by running sums (Welford 1962)."""

    count: int = 0
    mean_x: float = 0.0
    mean_y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0

    def add(self, x: float, y: float) -> Trend:
        """The line with one more value."""
        count, dx, dy = self.count + 1, x - self.mean_x, y - self.mean_y
        mean_x, mean_y = self.mean_x + dx / count, self.mean_y + dy / count
        after_x, after_y = x - mean_x, y - mean_y
        xx, xy, yy = self.xx + dx * after_x, self.xy + dx * after_y, self.yy + dy * after_y
        return Trend(count, mean_x, mean_y, xx, xy, yy)

    @property
    def z(self) -> float:
        """The slope in standard errors; 0 where three values are not there, or do not differ."""
        if self.count < 3 or not self.xx:
            return 0.0
        rest = max(self.yy - self.xy**2 / self.xx, 0.0) / (self.count - 2)
        return _in_errors(self.xy, math.sqrt(rest * self.xx))


@dataclass(slots=True)
class Course:
    """Some steps and evaluations of a run. Steps that changed nothing do not count."""

    config: Row = field(default_factory=dict)
    """config.json"""
    step: int = 0
    """The newest step."""
    learned: int = 0
    """Steps that changed the policy."""
    sampled: float = 0.0
    """The sum of all rollouts' mean lengths, also of steps that changed nothing; tokens."""
    trend: Trend = field(default_factory=Trend)
    """The line of the mean reward over all of them."""
    start: list[Row] = field(default_factory=list)
    recent: deque[Row] = field(default_factory=lambda: deque(maxlen=WINDOW))
    first: Evaluation | None = None
    """The evaluation of the untouched policy."""
    best: Evaluation | None = None
    """The evaluation with the highest mean reward before the last."""
    last: Evaluation | None = None
    """The newest one after a step."""

    def add(self, row: Row) -> None:
        """Add a step by its line of metrics.jsonl."""
        self.step = row["step"]
        length, rollouts = mean_of((row,), "completion/length"), mean_of((row,), "drawn/rollouts")
        self.sampled += (length or 0.0) * (1 if rollouts is None else rollouts)
        if row.get("skipped") or "reward/mean" not in row:
            return
        self.learned += 1
        if is_number(row["reward/mean"]):
            self.trend = self.trend.add(row["step"], row["reward/mean"])
        if len(self.start) < START:
            self.start.append(row)
        self.recent.append(row)

    def evaluate(self, evaluation: Evaluation) -> None:
        """Add an evaluation."""
        if evaluation.step == 0:
            self.first = self.best = evaluation
            return
        if self.last is not None and (self.best is None or self.last.means()[0] > self.best.means()[0]):
            self.best = self.last
        self.last = evaluation

    @property
    def is_long(self) -> bool:
        """Whether the first and the newest steps are full, and no step is in both."""
        return self.learned >= START + WINDOW

    @property
    def steps(self) -> int:
        """The steps that the run is to have; the newest step where its settings do not say."""
        return whole(self.config.get("steps")) or self.step

    @property
    def tokens(self) -> int:
        """Tokens that all steps have sampled; a completion without a score counts as the mean of the others."""
        prompts, samples = whole(self.config.get("prompts_per_step")), whole(self.config.get("samples_per_prompt"))
        return round(self.sampled * (prompts or 0) * (samples or 0))

    def setting(self, *names: str) -> Any:
        """The value of a nested setting; None where there is none."""
        value: Any = self.config
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def at_start(self, key: str) -> float | None:
        """The mean of a metric over the first steps; None where none of them has it."""
        return mean_of(self.start, key)

    def now(self, key: str) -> float | None:
        """The mean of a metric over the newest steps; None where none of them has it."""
        return mean_of(self.recent, key)

    def change(self, key: str) -> Change | None:
        """The change of a metric that has a standard error; None where a step lacks one."""
        errors = [[row.get(f"{key}_se") for row in rows] for rows in (self.start, self.recent)]
        before, after = self.at_start(key), self.now(key)
        if before is None or after is None or not all(is_number(e) for part in errors for e in part):
            return None
        variances = [sum(e**2 for e in part if e is not None) / len(part) ** 2 for part in errors]
        return Change(before, after, math.sqrt(sum(variances)))

    def largest_rise(self, key: str) -> tuple[float, int] | None:
        """The largest rise of a metric from one of the newest steps to the next, and the later step."""
        pairs = [(b[key] - a[key], b["step"]) for a, b in pairwise(self.recent) if is_number(a.get(key), b.get(key))]
        return max(pairs, default=None)


def mean_of(rows: Iterable[Row], key: str) -> float | None:
    """The mean of the values that are numbers; None without one."""
    values = [v for row in rows if isinstance(v := row.get(key), int | float) and math.isfinite(v)]
    return sum(values) / len(values) if values else None


def _in_errors(gain: float, error: float) -> float:
    """A gain in standard errors; infinite without an error, but 0 without a gain."""
    if error:
        return gain / error
    return math.copysign(math.inf, gain) if gain else 0.0


def is_number(*values: Any) -> bool:
    """Whether all values are finite numbers."""
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)


def whole(value: Any) -> int | None:
    """The value if it is a whole number."""
    return value if type(value) is int else None
