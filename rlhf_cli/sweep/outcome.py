"""Read the result of each trial of a sweep; a trial that cannot be read is left out with a reason."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from pydantic import ValidationError

from rlhf_cli.errors import first_line
from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.health.stopping import FLOOR
from rlhf_cli.runs.folder import CONFIG, EVALUATIONS, METRICS, TRIAL_LOG
from rlhf_cli.runs.json_files import JSON_OBJECT, read_content
from rlhf_cli.runs.listing import RunStatus, read_status
from rlhf_cli.runs.reading import EVALUATION, read_evaluations
from rlhf_cli.runs.result import Result
from rlhf_cli.schema import RunConfig
from rlhf_cli.sweep.record import Ending, SweepRecord, Trial


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One evaluation: means over a prompt's completions, by the prompt's number."""

    step: int
    beta: float
    """The final beta of the run's objective."""
    reward: Mapping[int, float]
    kl: Mapping[int, float]
    """Exact KL(policy || reference), nats."""
    length: Mapping[int, float]
    """Tokens."""

    def objective(self, beta: float) -> dict[int, float]:
        """reward - beta KL of each prompt."""
        return {prompt: reward - beta * self.kl[prompt] for prompt, reward in self.reward.items()}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trial that is finished."""

    trial: Trial
    config: RunConfig
    evaluations: tuple[HeldOut, ...]
    """By step; the last one is of the trained policy."""
    reference: Mapping[int, list[float]]
    """Rewards of the reference's completions at step 0, by prompt; empty: none were sampled."""
    training: Mapping[int, tuple[float, float]]
    """By step, the mean reward and KL of its own completions, at the temperature they were sampled with: nats; exact
    where it was measured, else its sampled estimate."""

    @property
    def first(self) -> HeldOut | None:
        """The untouched policy; None where it was not evaluated."""
        return self.evaluations[0] if self.evaluations[0].step == 0 else None

    @property
    def last(self) -> HeldOut:
        """The trained policy."""
        return self.evaluations[-1]


State = Literal["failed", "pruned", "stopped", "running", "not started", "unreadable", "not evaluated"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A trial without an outcome, and why."""

    trial: Trial
    state: State
    reason: str
    """One line."""
    log: Path | None
    """All that its processes printed; None where there is no such file."""


def read_trial(sweep: SweepRecord, trial: Trial) -> Outcome | LeftOut:
    """The trial's outcome, or why it has none."""
    folder = sweep.path(trial)
    status = read_status(folder)
    if status.state != "finished":
        return _unfinished(sweep, trial, status)
    name = CONFIG
    try:
        config = RunConfig.model_validate_json(read_content(folder / name))
        name = EVALUATIONS
        evaluations = [EVALUATION.validate_json(line) for line in _lines(folder / name)]
        held_out = tuple(map(_held_out, evaluations))
        name = METRICS
        training = dict(_training_steps(folder / name))
    except (OSError, ValueError, KeyError, TypeError) as error:
        return _left_out(sweep, trial, "unreadable", f"{name}: {_describe(error)}")
    if not evaluations or evaluations[-1].step == 0:
        return _left_out(sweep, trial, "not evaluated", f"evaluate.every={config.evaluate.every}")
    if pruned := why_pruned(folder):
        return _left_out(sweep, trial, "pruned", f"at step {evaluations[-1].step}: {pruned}")
    start = evaluations[0]
    own = start.reward if config.reference.kind == "initial" else start.reference and start.reference.reward
    reference = dict(zip(start.prompts, own, strict=True)) if own and start.step == 0 else {}
    return Outcome(trial, config, held_out, reference, training)


def why_pruned(folder: Path) -> str | None:
    """Say why the search ended a finished trial early; None where it did not."""
    result = Result.read(folder)
    if result is None or result.stopped is None or result.stopped.key != FLOOR:
        return None
    return result.stopped.reason.removeprefix("pruned: ")


def read_curve(folder: Path) -> dict[int, tuple[float, float]]:
    """Held-out reward and KL (nats) by step, at all evaluations of a trial but the one before its first step."""
    return {one.step: one.means() for one in read_evaluations(folder) if one.step}


def _unfinished(sweep: SweepRecord, trial: Trial, status: RunStatus) -> LeftOut:
    ending = Ending.read(status.folder)
    if status.state == "running":
        return _left_out(sweep, trial, "running", "a process works in it")
    if ending is not None and ending.is_failure:
        return _left_out(sweep, trial, "failed", ending.said)
    if status.state == "stopped":
        return _left_out(sweep, trial, "stopped", (ending and ending.said) or "before its last step")
    if not (status.folder / CONFIG).exists():
        return _left_out(sweep, trial, "not started", "the same command starts it")
    return _left_out(sweep, trial, "unreadable", status.reason or "")


def _left_out(sweep: SweepRecord, trial: Trial, state: State, reason: str) -> LeftOut:
    log = sweep.path(trial) / TRIAL_LOG
    return LeftOut(trial, state, reason, log if log.is_file() else None)


def _describe(error: Exception) -> str:
    """One line: the first thing that is wrong with a file."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return ": ".join([*filter(None, [".".join(map(str, first["loc"]))]), first["msg"]])
    return f"{type(error).__name__}: {first_line(error)}"


def _lines(file: Path) -> list[bytes]:
    return [line for line in read_content(file).split(b"\n") if line]


def _held_out(evaluation: Evaluation) -> HeldOut:
    """The means of an evaluation; raises ValueError without prompts, or with another number of groups than prompts."""

    def means(values: Sequence[Sequence[float]]) -> dict[int, float]:
        return {prompt: fmean(group) for prompt, group in zip(evaluation.prompts, values, strict=True)}

    if not evaluation.prompts:
        raise ValueError("an evaluation without prompts")
    reward, kl, length = means(evaluation.reward), means(evaluation.kl), means(evaluation.length)
    return HeldOut(evaluation.step, evaluation.beta, reward, kl, length)


def _training_steps(file: Path) -> Iterator[tuple[int, tuple[float, float]]]:
    """The steps that have a reward, with it and the KL; the line of step 0 has none."""
    for row in map(JSON_OBJECT.validate_json, _lines(file)):
        kl = row.get("kl/seq", row.get("kl/seq_k1"))
        if row.get("reward/mean") is not None and kl is not None:
            yield row["step"], (float(row["reward/mean"]), float(kl))
