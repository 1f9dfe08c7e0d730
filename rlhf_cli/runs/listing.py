"""List the runs below a folder, each with its state. It only reads; a folder may be half written or foreign."""

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from rlhf_cli.models.location import REWARD_MODEL
from rlhf_cli.paths import relative_to_here
from rlhf_cli.runs.checkpoint import find_newest, step_of
from rlhf_cli.runs.folder import ADAPTER, CHECKPOINTS, CONFIG, HYDRA, METRICS, RECORD, RESULT, TENSORBOARD
from rlhf_cli.runs.json_files import read_last_lines, read_object, read_rows
from rlhf_cli.runs.kind import is_run, verb_of
from rlhf_cli.runs.lock import is_locked

WITHOUT_RUNS: Final = (CHECKPOINTS, ADAPTER, REWARD_MODEL, TENSORBOARD, HYDRA)
"""Folders inside a run that are not searched for other runs."""

_UNSHOWN: Final = ("/", "run_dir=", "sweep_dir=", "display=", "resume=", "hydra.", "seeds=", "jobs=")
"""Beginnings of words of a command that are no settings of the run: where it writes, and the run that a fork names."""
_EVALUATED: Final = (
    {"step": "step", "objective": "eval/objective", "reward": "eval/reward/mean", "kl": "eval/kl/seq"},
    {"step": "step", "loss": "heldout/loss", "accuracy": "heldout/accuracy"},
    {"step": "step", "loss": "heldout/loss"},
)
"""Names of held-out figures and their metrics: of `rlhf train`, of supervised training, and without a pair that is no
tie."""

State = Literal["running", "finished", "stopped", "broken"]
"""running: a process works in it; stopped: it can be continued, killed or not; broken: it cannot."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """The state of one run, read from its folder."""

    folder: Path
    state: State
    reason: str | None
    """The reason for which the run is broken, or newer checkpoints are skipped."""
    step: int | None
    """The last step with a line of metrics."""
    steps: int | None
    """The number of steps that the run is to have."""
    objective: float | None
    """The objective of the last step that has one; `reward` and `kl` are of the same step."""
    reward: float | None
    kl: float | None
    """Nats: the exact KL where it was measured, else its sampled estimate."""
    checkpoint: Path | None
    """The newest valid one."""
    changed: float
    """The time of the last write to its settings or metrics, in seconds since 1970."""
    made_of: tuple[str, ...] = ()
    """The names of its model, algorithm and reward, or objective; `rlhf runs --json` writes them under this name."""
    overrides: tuple[str, ...] = ()
    """The overrides of the command that began it, without folders and display."""
    held_out: Mapping[str, float] | None = None
    """`objective`, `reward` and `kl` of its last evaluation, or `loss` and `accuracy`, and its `step`; None before the
    first."""
    verb: str = "train"
    """The words behind `rlhf` that began it, and continue it."""
    stalled: bool = False
    """Whether its patience ended it before its last step."""
    stopped_by: str | None = None
    """The setting that ended it before its last step: stop.kl."""

    def continue_command(self, *, anywhere: bool = False) -> str | None:
        """The command that continues the run, from this folder or from `anywhere`; None for a running or broken run."""
        if self.checkpoint is None or self.steps is None or self.stalled or self.state in ("running", "broken"):
            return None
        folder = self.folder if anywhere else relative_to_here(self.folder)
        further = f" steps={2 * self.steps}" if self.state == "finished" else ""
        if self.state == "finished" and self.stopped_by:
            further = f" {self.stopped_by}=null"
        return f"rlhf {self.verb} resume={shlex.quote(str(folder))}{further}"

    def row(self) -> dict[str, Any]:
        """The status in JSON's types."""
        row = asdict(self) | {"folder": str(self.folder), "reason": self.reason or ""}
        del row["changed"]
        return row | {
            "checkpoint": str(self.checkpoint) if self.checkpoint else None,
            "continue": self.continue_command(),
        }


def list_runs(root: Path) -> list[RunStatus]:
    """List every run in `root` or below it, the last changed first."""
    return sorted(map(read_status, _find_runs(root.resolve())), key=lambda run: (-run.changed, run.folder))


def read_status(folder: Path) -> RunStatus:
    """Read the state of the run in `folder`."""
    is_running, config = is_locked(folder), read_object(folder / CONFIG)
    steps, result = _whole(config.get("steps")), read_object(folder / RESULT)
    stalled, stopped = result.get("stalled") is not None, result.get("stopped")
    key = stopped.get("key") if isinstance(stopped, dict) else None
    last_step, metrics = read_last_metrics(folder)
    try:
        newest = find_newest(folder / CHECKPOINTS)
        checkpoint, skipped = newest.folder, newest.skipped
    except OSError as error:  # a running process changed it meanwhile, or it cannot be read
        checkpoint, skipped = None, ((folder / CHECKPOINTS, error.strerror or str(error)),)
    reason = "; ".join(f"{path.name}: {why}" for path, why in skipped)
    state: State
    if is_running:
        state = "running"
    elif steps is None:
        state, reason = "broken", f"{CONFIG}: not readable"
    elif stalled or isinstance(key, str) or (_whole(result.get("step")) or 0) >= steps:
        state = "finished"
    elif checkpoint is not None:
        state = "stopped"
    else:
        state, reason = "broken", f"no usable checkpoint{': ' if reason else ''}{reason}"
    return RunStatus(
        folder=folder,
        state=state,
        reason=reason or None,
        step=last_step if last_step is not None or checkpoint is None else step_of(checkpoint),
        steps=steps,
        objective=_number(metrics.get("objective")),
        reward=_number(metrics.get("reward/mean")),
        kl=_number(metrics.get("kl/seq", metrics.get("kl/seq_k1"))),
        checkpoint=checkpoint,
        changed=max(map(_modified, (folder / CONFIG, folder / METRICS))),
        made_of=_made_of(config),
        overrides=overrides_in(read_object(folder / RECORD)),
        held_out=_last_evaluation(folder),
        verb=verb_of(config),
        stalled=stalled,
        stopped_by=key if isinstance(key, str) else None,
    )


def read_last_metrics(folder: Path) -> tuple[int | None, Mapping[str, Any]]:
    """Read the last step that has a line of metrics, and the last line with an objective; None and {} without one.

    The line of step 0 has no objective.
    """
    last_step: int | None = None
    for row in read_rows(read_last_lines(folder / METRICS)):
        last_step = _whole(row.get("step")) if last_step is None else last_step
        if "objective" in row:
            return last_step, row
    return last_step, {}


def _made_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """`SmolLM2-135M`, `rloo`, `sentiment`; or `SmolLM2-135M`, `dpo`."""
    groups = (config.get(group) for group in ("model", "algorithm", "reward", "objective"))
    names = (group.get("path", group.get("kind")) if isinstance(group, dict) else None for group in groups)
    return tuple(Path(name).name for name in names if isinstance(name, str))


def overrides_in(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The overrides of the command in run.json, but those of where the run writes and of what it shows."""
    words = record.get("command")
    typed = words[1:] if isinstance(words, list) else []
    return tuple(word for word in typed if isinstance(word, str) and "=" in word and not word.startswith(_UNSHOWN))


def _last_evaluation(folder: Path) -> Mapping[str, float] | None:
    for row in read_rows(read_last_lines(folder / METRICS)):
        for keys in _EVALUATED:
            figures = {name: _number(row.get(key)) for name, key in keys.items()}
            if None not in figures.values():
                return {name: value for name, value in figures.items() if value is not None}
    return None


def _find_runs(root: Path) -> Iterator[Path]:
    """Yield the folders whose config.json is of this tool, or unreadable and beside checkpoints."""
    for name, folders, files in os.walk(root):
        folder = Path(name)
        folders.sort()
        if CONFIG in files:
            config = read_object(folder / CONFIG)
            if is_run(config) or (not config and CHECKPOINTS in folders):
                folders[:] = [inner for inner in folders if inner not in WITHOUT_RUNS]
                yield folder


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def _number(value: Any) -> float | None:
    return value if isinstance(value, float) else _whole(value)


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
