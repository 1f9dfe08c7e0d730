"""The readings of a run: at each step, the pairs that it made, and the votes that it read.

RUN/feedback/queue.jsonl has a line a step, written before the line of metrics that shows it. A step that is done again,
by a resume or by `rlhf verify-resume`, takes its votes from its line: so it reads what it read before, whatever has
arrived since or was edited. Lines are only ever added. A step that comes out otherwise, by a changed setting, say, adds
its line once more, and the lines before it of this step and of later ones do not count any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from rlhf_cli.feedback.from_runs import labelled_files, step_of
from rlhf_cli.runs.folder import FEEDBACK, QUEUE
from rlhf_cli.runs.json_files import read_lines
from rlhf_cli.settings import READ_STRICTLY


@dataclass(frozen=True, slots=True)
class Reading:
    """One line."""

    __pydantic_config__ = READ_STRICTLY

    step: int
    pairs: str | None
    """The name, without its ending, of the file of pairs that was made at this step."""
    votes: dict[str, list[str]]
    """By the name of a file of pairs, the lines of its votes that were new at this step."""


_READING: Final = TypeAdapter(Reading)


def read_readings(run: Path) -> dict[int, Reading]:
    """The readings by step, in ascending order; lines that are none, such as a cut one, are passed over."""
    found: dict[int, Reading] = {}
    for line in read_lines(run / FEEDBACK / QUEUE):
        try:
            reading = _READING.validate_json(line)
        except ValueError:
            continue
        if found and reading.step <= next(reversed(found)):
            found = {step: earlier for step, earlier in found.items() if step < reading.step}
        found[reading.step] = reading
    return found


def queued_files(run: Path) -> list[Path]:
    """The files of pairs that wait for votes or have them, by step."""
    names = [reading.pairs for reading in read_readings(run).values() if reading.pairs]
    files = [run / FEEDBACK / f"{name}.jsonl" for name in names]
    return [file for file in files if file.is_file()]


def undone_files(run: Path) -> list[Path]:
    """The files of pairs of steps that were done again, after a resume, with other texts: their votes do not count."""
    queue = {reading.step: reading.pairs for reading in read_readings(run).values() if reading.pairs}
    own = [file for file in labelled_files(run) if "-against-" not in file.name]
    return [file for file in own if queue.get(step_of(file), file.stem) != file.stem]
