"""The files of a sweep: sweep.json with its command and trials, and in each trial's folder how its process ended."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_cli.errors import EXIT_DONE, EXIT_STOPPED
from rlhf_cli.runs.binding import OWN, changed, own_hash
from rlhf_cli.runs.folder import ENDING, SWEEP
from rlhf_cli.runs.json_files import Stored, StoredAlone, read_object, write_json

SweptSettings = tuple[tuple[str, str], ...]
"""Some settings of a trial: keys with their values as typed; of a path the last part."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a sweep."""

    name: str
    """Name of its folder in the sweep's folder."""
    told: dict[str, str]
    """The settings that tell it from the other trials."""
    steps: int = 0
    """Steps of the whole trial."""


@dataclass(frozen=True, slots=True)
class SweepRecord(Stored):
    """The plan of a sweep, as sweep.json keeps it, all but the folder."""

    folder: Path
    command: str
    """Repeats and continues the sweep."""
    trials: tuple[Trial, ...]
    where: str = ""
    """The folder that the command was given in: paths in the command may be relative to it."""
    compare_at: float | None = None
    """The beta at which all points are compared; None in the record of an earlier version: from the points."""
    threads: int | None = None
    """CPU threads of each trial without a GPU, 0 as torch chooses; None before a trial was started by rlhf itself."""
    search: dict[str, Any] | None = None
    """The settings of a search; None where all values are listed."""

    def again(self) -> str:
        """The command, as it works from the present working directory."""
        is_here = Path(self.where) in (Path(), Path.cwd())
        return self.command if is_here else f"cd {shlex.quote(self.where)} && {self.command}"

    def path(self, trial: Trial) -> Path:
        """The trial's folder."""
        return self.folder / trial.name

    def write(self) -> None:
        """Keep it as sweep.json, with its own hash as the last key."""
        content = {name: value for name, value in self.content().items() if name != "folder"}
        write_json(self.folder / SWEEP, content | {OWN: own_hash(content)})

    @staticmethod
    def read(folder: Path) -> SweepRecord | None:
        """The record of the sweep in this folder; None where there is none that can be read.

        Raises UserError (exit 5) where it is not what a sweep wrote. Earlier versions wrote no hash: no check.
        """
        content = read_object(folder / SWEEP)
        known = content.pop(OWN, None)
        record = SweepRecord.parse(json.dumps({**content, "folder": str(folder)}))
        if record is not None and known not in (None, own_hash(content)):
            raise changed(SWEEP, folder, of="sweep")
        return record


@dataclass(frozen=True, slots=True)
class Ending(StoredAlone):
    """The last end of a trial's process, as its folder keeps it."""

    file = ENDING
    indent = None

    exit_code: int
    """Exit code of the process; below zero, the signal that killed it."""
    said: str
    """One line: why it failed or was stopped; empty where it is done."""

    @property
    def is_failure(self) -> bool:
        """Whether it was neither done nor stopped on request."""
        return self.exit_code not in (EXIT_DONE, EXIT_STOPPED)


def name_of(settings: Mapping[str, str]) -> str:
    """The settings that tell a trial or a point from the others, as one name: `beta=0.1,temperature=1`."""
    return ",".join(f"{key}={value}" for key, value in settings.items()) or "the only one"


def group_by_point(trials: Sequence[Trial]) -> dict[SweptSettings, list[Trial]]:
    """The replicates of each point, in the sweep's order: trials that differ in nothing but the seed."""
    groups: dict[SweptSettings, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(tuple((key, value) for key, value in trial.told.items() if key != "seed"), []).append(trial)
    return groups
