"""Read a run's folder; skip files that are missing or corrupt."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from rlhf_cli.errors import UserError
from rlhf_cli.evaluation.evaluation import Comparison, Evaluation, compare
from rlhf_cli.runs.binding import CHANGED, last_change
from rlhf_cli.runs.folder import CONFIG, EVALUATIONS, METRICS, RECORD, SAMPLES, TIMINGS
from rlhf_cli.runs.json_files import PART, parse, read_last_lines, read_lines, read_object, read_rows
from rlhf_cli.runs.listing import RunStatus, read_status
from rlhf_cli.runs.result import Result

EVALUATION: Final = TypeAdapter(Evaluation)
"""A line of evaluations.jsonl."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SavedRun:
    """One run, with the content of its folder."""

    status: RunStatus
    config: Row
    """config.json; empty where it cannot be read, as is `record`."""
    record: Row
    """run.json"""
    result: Result | None
    metrics: tuple[Row, ...]
    timings: tuple[Row, ...]
    early: tuple[Row, ...]
    """The logged completions of the first step."""
    late: tuple[Row, ...]
    """The logged completions of the last step; empty where that is the first."""
    first: Evaluation | None
    """The evaluation of the untouched policy, which is the reference; None where later ones judge otherwise."""
    last: Evaluation | None
    """The newest later evaluation."""

    @property
    def comparison(self) -> Comparison | None:
        """The last evaluation against the first; None where one is missing, or they share fewer than two prompts."""
        return compare_if_paired(self.first, self.last)


def read_run(folder: Path) -> SavedRun:
    """Read the whole folder of a run."""
    early = _of_first_step(read_lines(folder / SAMPLES, PART))
    late = _of_first_step(read_last_lines(folder / SAMPLES))[::-1]
    first, last = read_first_and_last(folder)
    return SavedRun(
        status=read_status(folder),
        config=read_object(folder / CONFIG),
        record=read_object(folder / RECORD),
        result=Result.read(folder),
        metrics=tuple(read_steps(folder)),
        timings=tuple(_steps(read_lines(folder / TIMINGS))),
        early=tuple(early),
        late=tuple(late) if early and late and early[0]["step"] != late[0]["step"] else (),
        first=first,
        last=last,
    )


def read_steps(folder: Path) -> Iterator[Row]:
    """The rows of metrics.jsonl that have a step."""
    return _steps(read_lines(folder / METRICS))


def read_metrics(folder: Path, until: int) -> list[dict[str, float]]:
    """The rows of metrics.jsonl up to step `until`; a value that is no number is NaN."""
    rows = (row for row in read_steps(folder) if row["step"] <= until)
    return [{key: value if isinstance(value, int | float) else math.nan for key, value in row.items()} for row in rows]


def read_first_and_last(
    folder: Path, groups: Collection[str] | None = None
) -> tuple[Evaluation | None, Evaluation | None]:
    """Read the evaluation of the untouched policy, which is the reference, and the newest later one.

    They can be compared: neither is from before a change of settings, as `last_change` has it.
    """
    lines, change = read_lines(folder / EVALUATIONS), last_change(folder, groups)
    first = next((evaluation for evaluation in _evaluations(lines[:1]) if evaluation.step == 0), None)
    last = (evaluation for evaluation in _evaluations(reversed(lines)) if evaluation.step > max(change, 0))
    return None if change >= 0 else first, next(last, None)


def why_not_compared(record: Row) -> str:
    """Say why a run, of this run.json, has no first and last evaluation that can be compared."""
    if isinstance(changes := record.get(CHANGED), dict) and changes:
        return f"{' and '.join(changes)} changed after step {max(changes.values())}, and the evaluations with it"
    return f"{EVALUATIONS} lacks the first or the last evaluation"


def read_evaluations(folder: Path) -> list[Evaluation]:
    """Read all evaluations that are sound and can be compared with the last, in the order of their steps."""
    change = last_change(folder)
    return [evaluation for evaluation in _evaluations(read_lines(folder / EVALUATIONS)) if evaluation.step > change]


def read_evaluation(folder: Path, step: int) -> Evaluation | None:
    """Read the evaluation of one step; None where there is none that is sound."""
    lines = [line for line in read_lines(folder / EVALUATIONS) if line.startswith(f'{{"step": {step},'.encode())]
    return next(_evaluations(lines), None)


def compare_if_paired(before: Evaluation | None, after: Evaluation | None) -> Comparison | None:
    """Compare `after` with `before`; None where one is missing, or they share fewer than two prompts."""
    try:
        return compare(before, after) if before and after else None
    except UserError:
        return None


def _steps(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the rows that have a step."""
    return (row for row in read_rows(lines) if type(row.get("step")) is int)


def _of_first_step(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """The rows of the step that the first row is of."""
    _, rows = next(groupby(_steps(lines), itemgetter("step")), (None, ()))
    return list(rows)


def _evaluations(lines: Iterable[bytes]) -> Iterator[Evaluation]:
    """The lines that are sound evaluations."""
    return (one for line in lines if (one := parse(EVALUATION, line)) is not None and one.is_sound)
