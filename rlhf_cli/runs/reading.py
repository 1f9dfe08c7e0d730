"""All that a run wrote down, as plain data; what is missing, foreign or half written is left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rlhf_cli.errors import UserError
from rlhf_cli.evaluation.evaluation import Comparison, Evaluation, compare
from rlhf_cli.runs.folder import CONFIG, EVALUATIONS, METRICS, RECORD, SAMPLES, TIMINGS
from rlhf_cli.runs.listing import Facts, facts, json_object, last_lines
from rlhf_cli.runs.result import Result

_HEAD: Final = 2**17
"""Bytes at a file's beginning among which the samples of its first step stand."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """One run."""

    facts: Facts
    config: Row
    record: Row
    """run.json"""
    result: Result | None
    metrics: tuple[Row, ...]
    timings: tuple[Row, ...]
    early: tuple[Row, ...]
    """The logged completions of its first step."""
    late: tuple[Row, ...]
    """And of its last one; empty where that is the first."""
    first: Evaluation | None
    """The evaluation of the untouched policy, which is the reference."""
    last: Evaluation | None
    """The newest later one."""

    @property
    def comparison(self) -> Comparison | None:
        """The last evaluation against the first; None where there are not both, or hardly a prompt is in both."""
        return paired(self.first, self.last)


def read(folder: Path) -> Written:
    """Everything that the run's folder holds."""
    samples = folder / SAMPLES
    early = _of_one_step(_first_lines(samples))
    late = _of_one_step(last_lines(samples))[::-1]
    evaluations = _lines(folder / EVALUATIONS)
    return Written(
        facts=facts(folder),
        config=json_object(folder / CONFIG),
        record=json_object(folder / RECORD),
        result=Result.read(folder),
        metrics=tuple(_rows(_lines(folder / METRICS))),
        timings=tuple(_rows(_lines(folder / TIMINGS))),
        early=tuple(early),
        late=tuple(late) if early and late and early[0]["step"] != late[0]["step"] else (),
        first=next((one for one in _evaluations(evaluations[:1]) if one.step == 0), None),
        last=next((one for one in _evaluations(reversed(evaluations)) if one.step > 0), None),
    )


def paired(before: Evaluation | None, after: Evaluation | None) -> Comparison | None:
    """The one against the other; None where one is missing, or fewer than two prompts are in both."""
    try:
        return compare(before, after) if before and after else None
    except UserError:
        return None


def _lines(file: Path) -> list[bytes]:
    try:
        return file.read_bytes().split(b"\n") if file.is_file() else []
    except OSError:
        return []


def _first_lines(file: Path) -> list[bytes]:
    """The lines at a file's beginning; the last of them may be cut."""
    try:
        if not file.is_file():
            return []
        with file.open("rb") as handle:
            return handle.read(_HEAD).split(b"\n")
    except OSError:
        return []


def _rows(lines: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    """The rows with a step; what is no such row, the half line of a killed run for one, is passed over."""
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and type(row.get("step")) is int:
            yield row


def _of_one_step(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """The rows of the step that comes first."""
    found: list[dict[str, Any]] = []
    for row in _rows(lines):
        if found and row["step"] != found[0]["step"]:
            break
        found.append(row)
    return found


def _evaluations(lines: Iterable[bytes]) -> Iterable[Evaluation]:
    """Those that can be read and have numbers throughout."""
    for row in _rows(lines):
        try:
            found = Evaluation.read(row)
            found.metrics()
        except (AttributeError, ArithmeticError, KeyError, TypeError, ValueError):
            continue
        yield found
