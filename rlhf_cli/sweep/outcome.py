"""What each trial of a sweep came to, read from its folder; whatever half-written thing is there, it only says so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from rlhf_cli.errors import EXIT_DONE, EXIT_STOPPED
from rlhf_cli.runs.folder import CONFIG, EVALUATIONS, METRICS, TRIAL_LOG
from rlhf_cli.runs.listing import facts
from rlhf_cli.schema import RunConfig
from rlhf_cli.sweep.record import Ending, Sweep, Trial


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One evaluation: means over a prompt's completions, by the prompt's number."""

    step: int
    beta: float
    """Of the run's objective: its final one."""
    reward: Mapping[int, float]
    kl: Mapping[int, float]
    """Exact KL(policy || reference), nats."""
    length: Mapping[int, float]
    """Tokens."""

    def objective(self, beta: float) -> dict[int, float]:
        """reward - beta KL of each prompt."""
        return {prompt: reward - beta * self.kl[prompt] for prompt, reward in self.reward.items()}


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """Means over a step's completions, at the temperature they were sampled with."""

    step: int
    reward: float
    kl: float
    """Nats; exact where it was measured, else its sampled estimate."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trial that is finished."""

    trial: Trial
    config: RunConfig
    evaluations: tuple[HeldOut, ...]
    """In their order; the last one is of the trained policy."""
    reference: Mapping[int, list[float]]
    """Rewards of the completions at step 0, where the policy is the reference, by prompt; empty: not evaluated."""
    training: tuple[TrainingStep, ...]

    @property
    def first(self) -> HeldOut | None:
        """The reference; None where it was not evaluated."""
        return self.evaluations[0] if self.evaluations[0].step == 0 else None

    @property
    def last(self) -> HeldOut:
        """The trained policy."""
        return self.evaluations[-1]


State = Literal["failed", "stopped", "running", "not started", "unreadable", "not evaluated"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A trial that says nothing, and why."""

    trial: Trial
    state: State
    reason: str
    """One line."""
    log: Path | None
    """What it said; None where it said nothing."""


def read_trial(sweep: Sweep, trial: Trial) -> Outcome | LeftOut:
    """What came of it."""
    folder = sweep.path(trial)
    stands = facts(folder)
    if stands.state != "finished":
        return _unfinished(sweep, trial, stands.state, stands.reason)
    file = CONFIG
    try:
        config = RunConfig.model_validate(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        file = EVALUATIONS
        rows = list(_rows(folder / file))
        evaluations = tuple(map(_held_out, rows))
        file = METRICS
        training = tuple(_training(folder / file))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return _left_out(sweep, trial, "unreadable", f"{file}: {type(error).__name__}: {_first_line(error)}")
    if not evaluations or evaluations[-1].step == 0:
        return _left_out(sweep, trial, "not evaluated", f"evaluate.every={config.evaluate.every}")
    reference = dict(zip(rows[0]["prompts"], rows[0]["reward"], strict=True)) if evaluations[0].step == 0 else {}
    return Outcome(trial, config, evaluations, reference, training)


def _unfinished(sweep: Sweep, trial: Trial, state: str, reason: str) -> LeftOut:
    folder, ended = sweep.path(trial), Ending.read(sweep.path(trial))
    if state == "running":
        return _left_out(sweep, trial, "running", "a process works in it")
    if ended is not None and ended.exit_code not in (EXIT_DONE, EXIT_STOPPED):
        return _left_out(sweep, trial, "failed", ended.said)
    if state == "stopped":
        return _left_out(sweep, trial, "stopped", (ended and ended.said) or "before its last step")
    if not (folder / CONFIG).exists():
        return _left_out(sweep, trial, "not started", "the same command starts it")
    return _left_out(sweep, trial, "unreadable", reason)


def _left_out(sweep: Sweep, trial: Trial, state: State, reason: str) -> LeftOut:
    log = sweep.path(trial) / TRIAL_LOG
    return LeftOut(trial, state, reason, log if log.is_file() else None)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _held_out(row: Mapping[str, Any]) -> HeldOut:
    """The evaluation of a row; raises KeyError, TypeError or ValueError where it is not one."""

    def means(name: str) -> dict[int, float]:
        return {prompt: fmean(values) for prompt, values in zip(row["prompts"], row[name], strict=True)}

    found = HeldOut(row["step"], row["beta"], means("reward"), means("kl"), means("length"))
    if not found.reward:
        raise ValueError("an evaluation without prompts")
    return found


def _training(file: Path) -> Iterator[TrainingStep]:
    """The steps that have a reward; evaluating the start writes a line without."""
    for row in _rows(file):
        kl = row.get("kl/seq", row.get("kl/seq_k1"))
        if row.get("reward/mean") is not None and kl is not None:
            yield TrainingStep(row["step"], float(row["reward/mean"]), float(kl))
