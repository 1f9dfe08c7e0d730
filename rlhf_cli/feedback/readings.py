"""The readings of a run: at each step, the pairs that it made, and the votes that it read.

RUN/feedback/queue.jsonl has a line a step, written before the line of metrics that shows it. A step that is done again,
by a resume or by `rlhf verify-resume`, takes its votes from its line: so it reads what it read before, whatever has
arrived since or was edited. Lines are only ever added. A step that comes out otherwise, by a changed setting, say, adds
its line once more, and the lines before it of this step and of later ones do not count any more.
"""

from dataclasses import dataclass
from pathlib import Path

from rlhf_cli.feedback.from_runs import labelled_files, step_of
from rlhf_cli.runs.disk import no_link
from rlhf_cli.runs.folder import FEEDBACK, QUEUE
from rlhf_cli.runs.json_files import Stored, content_of, read_lines
from rlhf_cli.runs.logbook import drop_half_line


@dataclass(frozen=True, slots=True)
class Reading(Stored):
    """One line."""

    step: int
    pairs: str | None
    """The name, without its ending, of the file of pairs that was made at this step."""
    votes: dict[str, list[str]]
    """By the name of a file of pairs, the lines of its votes that were new at this step."""


def read_readings(run: Path) -> dict[int, Reading]:
    """The readings by step, in ascending order; lines that are none, such as a cut one, are passed over."""
    found: dict[int, Reading] = {}
    for line in read_lines(run / FEEDBACK / QUEUE):
        if (reading := Reading.parse(line)) is None:
            continue
        if found and reading.step <= next(reversed(found)):
            found = {step: earlier for step, earlier in found.items() if step < reading.step}
        found[reading.step] = reading
    return found


def odd_readings(run: Path) -> list[str]:
    """`file:line: reason` for every whole line that is no reading; what it said does not count."""
    numbered = enumerate(read_lines(run / FEEDBACK / QUEUE)[:-1], start=1)
    return [f"{QUEUE}:{number}: no reading" for number, line in numbered if line and Reading.parse(line) is None]


def end_last_line(file: Path) -> None:
    """End the last line where only its end is missing, or cut off what a kill left of it.

    Raises OSError, also where the file is a link.
    """
    rest = content_of(file).rpartition(b"\n")[2]
    if Reading.parse(rest) is not None:
        with open(file, "ab", opener=no_link) as handle:
            handle.write(b"\n")
    else:
        drop_half_line(file)


def queued_files(run: Path) -> list[Path]:
    """The files of pairs that wait for votes or have them, by step."""
    names = [reading.pairs for reading in read_readings(run).values() if reading.pairs]
    files = [run / FEEDBACK / f"{name}.jsonl" for name in names]
    return [file for file in files if file.is_file()]


def undone_files(run: Path) -> list[Path]:
    """The files of pairs that the readings do not name, or not any more: their votes do not count.

    Their step was done again, after a resume, with other texts; or a line of the readings was changed.
    """
    queue = {reading.step: reading.pairs for reading in read_readings(run).values() if reading.pairs}
    last, own = max(queue, default=0), [file for file in labelled_files(run) if "-against-" not in file.name]
    return [file for file in own if step_of(file) <= last and queue.get(step_of(file)) != file.stem]
