"""What runs there are and how each stands, as plain data; only reads, whatever half-written or foreign thing it is."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from rlhf_cli.paths import shown
from rlhf_cli.runs.checkpoint import is_locked, newest_valid, step_of
from rlhf_cli.runs.folder import ADAPTER, CHECKPOINTS, CONFIG, HYDRA, METRICS, RESULT, TENSORBOARD

_PARTS: Final = (CHECKPOINTS, ADAPTER, TENSORBOARD, HYDRA)
_TAIL: Final = 2**17
"""Bytes at a file's end among which its last line stands."""
_LARGEST: Final = 2**24
"""Bytes; a JSON file of a run is far smaller."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One run, from what its folder holds."""

    folder: Path
    state: Literal["running", "finished", "stopped", "broken"]
    """running: a process works in it; stopped: it can be continued, killed or not; broken: it cannot."""
    reason: str
    """Why it is broken, or why newer checkpoints are passed over; '' where there is nothing to say."""
    step: int | None
    """The last one written down."""
    steps: int | None
    """How many there are to be."""
    objective: float | None
    reward: float | None
    kl: float | None
    """Of the last step that has them; the KL in nats, exact where it was measured, else its sampled estimate."""
    checkpoint: Path | None
    """The newest that verifies."""
    changed: float
    """When it last wrote something, in seconds since 1970."""

    def going_on(self, *, anywhere: bool = False) -> str:
        """The command that continues it, from here or from `anywhere`; '' where it is running or broken."""
        if self.checkpoint is None or self.steps is None or self.state in ("running", "broken"):
            return ""
        further = f" steps={2 * self.steps}" if self.state == "finished" else ""
        return f"rlhf train resume={shlex.quote(str(self.folder if anywhere else shown(self.folder)))}{further}"

    def row(self) -> dict[str, Any]:
        """The facts as JSON holds them."""
        return {
            "folder": str(self.folder),
            "state": self.state,
            "reason": self.reason,
            "step": self.step,
            "steps": self.steps,
            "objective": self.objective,
            "reward": self.reward,
            "kl": self.kl,
            "checkpoint": str(self.checkpoint) if self.checkpoint else None,
            "continue": self.going_on() or None,
        }


def runs(root: Path) -> list[Facts]:
    """Every run in `root` or below it, what changed last first."""
    return sorted(map(facts, _found(root.resolve())), key=lambda run: (-run.changed, run.folder))


def facts(folder: Path) -> Facts:
    """How the run in `folder` stands."""
    running, config = is_locked(folder), json_object(folder / CONFIG)
    steps = _whole(config.get("steps"))
    last, measured = last_metrics(folder)
    try:
        found = newest_valid(folder / CHECKPOINTS)
        checkpoint, skipped = found.folder, found.skipped
    except OSError as error:  # a run that works meanwhile, or a folder that cannot be read
        checkpoint, skipped = None, ((folder / CHECKPOINTS, error.strerror or str(error)),)
    reason = "; ".join(f"{path.name}: {why}" for path, why in skipped)
    state: Literal["running", "finished", "stopped", "broken"]
    if running:
        state = "running"
    elif steps is None:
        state, reason = "broken", f"{CONFIG}: not readable"
    elif (_whole(json_object(folder / RESULT).get("step")) or 0) >= steps:
        state = "finished"
    elif checkpoint is not None:
        state = "stopped"
    else:
        state, reason = "broken", f"no usable checkpoint{': ' if reason else ''}{reason}"
    return Facts(
        folder=folder,
        state=state,
        reason=reason,
        step=last if last is not None or checkpoint is None else step_of(checkpoint),
        steps=steps,
        objective=_number(measured.get("objective")),
        reward=_number(measured.get("reward/mean")),
        kl=_number(measured.get("kl/seq", measured.get("kl/seq_k1"))),
        checkpoint=checkpoint,
        changed=max(map(_changed, (folder / CONFIG, folder / METRICS))),
    )


def _found(root: Path) -> Iterator[Path]:
    """The folders of runs: their config.json is of this tool, or unreadable beside checkpoints."""
    for name, folders, files in os.walk(root):
        folder = Path(name)
        folders.sort()
        if CONFIG in files:
            config = json_object(folder / CONFIG)
            if {"steps", "reward", "algorithm"} <= config.keys() or (not config and CHECKPOINTS in folders):
                folders[:] = [inner for inner in folders if inner not in _PARTS]
                yield folder


def json_object(file: Path) -> dict[str, Any]:
    """A file's JSON object; empty where there is none that can be read."""
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST:
            return {}
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def last_metrics(folder: Path) -> tuple[int | None, Mapping[str, Any]]:
    """The last step that a run wrote down, and its last line of metrics with an objective; empty where there is none.

    Evaluating the start writes a line without.
    """
    last: int | None = None
    for line in last_lines(folder / METRICS):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # written by half
            continue
        if isinstance(row, dict):
            last = _whole(row.get("step")) if last is None else last
            if "objective" in row:
                return last, row
    return last, {}


def last_lines(file: Path) -> list[bytes]:
    """The lines at a file's end, the last one first; the first of the file among them may be cut."""
    try:
        if not file.is_file():
            return []
        with file.open("rb") as handle:
            handle.seek(max(0, file.stat().st_size - _TAIL))
            return handle.read(_TAIL).split(b"\n")[::-1]
    except OSError:
        return []


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def _number(value: Any) -> float | None:
    return value if isinstance(value, float) else _whole(value)


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
