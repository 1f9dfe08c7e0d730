"""What a sweep writes down of itself and of the end of each trial; plain data."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from rlhf_cli.errors import EXIT_DONE, EXIT_STOPPED
from rlhf_cli.runs.disk import replace_file
from rlhf_cli.runs.folder import ENDING, SWEEP


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a sweep."""

    name: str
    """Of its folder in the sweep's."""
    told: dict[str, str]
    """The keys that tell it from the others, with its values; of a path its last part."""
    steps: int = 0
    """How many there are to be."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What was asked for."""

    folder: Path
    command: str
    """What repeats and continues it."""
    trials: tuple[Trial, ...]
    where: str = ""
    """The folder that the command was given in: paths in it may be relative to it."""

    def again(self) -> str:
        """What to type to repeat and continue it, wherever one is."""
        return (
            self.command
            if Path(self.where) in (Path(), Path.cwd())
            else f"cd {shlex.quote(self.where)} && {self.command}"
        )

    def path(self, trial: Trial) -> Path:
        """The trial's folder."""
        return self.folder / trial.name

    def write(self) -> None:
        """Keep it as sweep.json."""
        trials = [asdict(trial) for trial in self.trials]
        data = {"command": self.command, "where": self.where, "trials": trials}
        replace_file(self.folder / SWEEP, json.dumps(data, indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The sweep of this folder; None where there is none that could be read."""
        try:
            data = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
            trials = tuple(Trial(**trial) for trial in data["trials"])
            return cls(folder, str(data["command"]), trials, str(data["where"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a trial's process ended the last time."""

    exit_code: int
    """Of the process; below zero the signal that killed it."""
    said: str
    """One line: why it failed or was stopped; empty where it is done."""

    @property
    def failed(self) -> bool:
        """Neither done nor stopped on request."""
        return self.exit_code not in (EXIT_DONE, EXIT_STOPPED)

    def write(self, folder: Path) -> None:
        """Keep it as trial.json in the trial's folder."""
        replace_file(folder / ENDING, json.dumps(asdict(self), ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """How the trial in this folder ended; None where it did not yet, or where that cannot be read."""
        try:
            return cls(**json.loads((folder / ENDING).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def name_of(settings: Mapping[str, str]) -> str:
    """The settings that tell a trial or a point from the others, as one name: `beta=0.1,temperature=1`."""
    return ",".join(f"{key}={value}" for key, value in settings.items()) or "the only one"


def points(trials: Sequence[Trial]) -> dict[tuple[tuple[str, str], ...], list[Trial]]:
    """The trials by what they share but for the seed: the replicates of each point of the sweep, in its order."""
    found: dict[tuple[tuple[str, str], ...], list[Trial]] = {}
    for trial in trials:
        found.setdefault(tuple((key, value) for key, value in trial.told.items() if key != "seed"), []).append(trial)
    return found
