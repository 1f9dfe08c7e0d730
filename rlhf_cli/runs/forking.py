"""Fork a run: copy it as it was at a checkpoint into a folder of its own, which names its parent.

Everything random depends on the seed, the step, the prompt and the completion, and a fork keeps the seed: it differs
from its parent by the settings that were changed, and not by luck. The parent is only read.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rlhf_cli.errors import UserError, bad_run
from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.paths import expand
from rlhf_cli.runs.binding import BOUND, HELD_OUT, PARENT, read_record, with_changes, write_config, write_record
from rlhf_cli.runs.changes import differences, is_under, judging_groups
from rlhf_cli.runs.checkpoint import MANIFEST, folder_of, step_of, why_invalid
from rlhf_cli.runs.disk import DISK, scratch_beside
from rlhf_cli.runs.folder import CHECKPOINTS, FEEDBACK, LOGS, QUEUE, RECORD
from rlhf_cli.runs.json_files import read_object
from rlhf_cli.runs.reading import read_evaluations
from rlhf_cli.runs.resume import Origin, find_named, find_origin, has_run
from rlhf_cli.schema import RunConfig

LATEST: Final = "latest"
STAYS: Final[Mapping[str, str]] = {
    "model": "the adapter and the optimizer's moments fit that model alone",
    "data": "parent and fork are compared on the same prompts",
    "evaluate.prompts": "parent and fork are compared on the same prompts",
    "seed": "a fork draws the same random numbers as its parent",
    "seeds": "a fork draws the same random numbers as its parent",
}
"""Settings that a fork has from its parent, each with the reason."""
MAY_CHANGE: Final = ("model.engine", "model.gradient_checkpointing", "model.lora.dropout")
"""Settings below these that a fork may change: the state does not depend on them."""
ASIDE: Final = ("run_dir", "sweep_dir", "resume", "resume_allow", "display", "jobs")
"""Settings that say where a run writes and what it shows."""


@dataclass(frozen=True, slots=True)
class Parent:
    """The run that a fork began from, as the fork's run.json has it."""

    folder: Path
    step: int
    checkpoint: str
    """SHA-256 of the checkpoint's manifest, which lists the SHA-256 of its files."""
    changed: Mapping[str, Sequence[Any]]
    """Key -> old and new value, as plain data."""


def find_fork_point(target: str) -> Origin:
    """Find the checkpoint that `RUN@STEP` means; `RUN` and `RUN@latest` mean the newest valid one.

    Raises UserError (exit 5) where there is no such run or checkpoint.
    """
    run, at, step = target.rpartition("@")
    if not at or expand(target).is_dir():
        run, step = target, LATEST
    folder = find_named(run)
    if step == LATEST:
        return find_origin(str(folder))
    if not step.isdecimal():
        raise UserError(f"no step: {step}", where=target, fix="RUN@STEP, or RUN@latest")
    return find_origin(str(folder_of(folder / CHECKPOINTS, int(step))))


def check_fork(saved: RunConfig, requested: RunConfig, step: int) -> dict[str, tuple[Any, Any]]:
    """Return the changed settings: key -> old and new value.

    Raises UserError for one that would make the state at `step` meaningless, or that leaves no step to train.
    """
    before, after = saved.model_dump(mode="json"), requested.model_dump(mode="json")
    changed = {key: (old, new) for key, old, new in differences(before, after) if not is_under(key, ASIDE)}
    for key, (old, new) in changed.items():
        why = next((reason for name, reason in STAYS.items() if is_under(key, (name,))), None)
        if why is not None and not is_under(key, MAY_CHANGE):
            raise UserError(f"a fork keeps {key}={old} (not {new}): {why}", where=key, fix="start a new run")
    if bool(saved.evaluate.every) != bool(requested.evaluate.every) and saved.data.sets_aside:
        why = "held-out prompts would join the training, or leave it"
        raise UserError(f"a fork is evaluated if its parent is: {why}", where="evaluate.every", fix="leave it out")
    if saved.algorithm.needs_value != requested.algorithm.needs_value:
        has = "has a" if saved.algorithm.needs_value else "has no"
        raise UserError(
            f"the checkpoint {has} value head, so algorithm={requested.algorithm.kind} cannot go on from it",
            where="algorithm",
            fix="start a new run, with model.adapter=RUN to begin from that policy",
        )
    if requested.steps <= step:
        raise UserError(f"no step is left after step {step}", where=f"steps={requested.steps}", fix=f"steps={2 * step}")
    return changed


def make_fork(
    origin: Origin, folder: Path, config: RunConfig, changed: Mapping[str, tuple[Any, Any]], command: Sequence[str]
) -> None:
    """Make the fork in `folder`: its parent as it was at the checkpoint, with the settings `config`.

    The folder is whole or absent. Raises UserError (exit 5) where the parent's files are not those of one run.
    """
    record = read_record(origin.folder)
    if not record:
        what, fix = f"the run has no {RECORD}, which says what it began with", "bring the file back"
        raise bad_run(what, origin.folder, fix)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch_beside(folder) as scratch:
        if has_run(folder):  # another process made it meanwhile
            return
        for name in (*LOGS.values(), f"{FEEDBACK}/{QUEUE}"):  # lines after the checkpoint are cut when the fork begins
            if (origin.folder / name).is_file():
                (scratch / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(origin.folder / name, scratch / name)
        checkpoint = scratch / CHECKPOINTS / origin.checkpoint.name
        with suppress(FileNotFoundError):  # a running parent removed it meanwhile
            shutil.copytree(origin.checkpoint, checkpoint)
        if (reason := why_invalid(checkpoint)) is not None:
            what, fix = f"the run removed this checkpoint meanwhile: {reason}", "fork from a newer one: RUN@latest"
            raise bad_run(what, origin.checkpoint, fix)
        parent = {
            "folder": str(origin.folder),
            "step": step_of(origin.checkpoint),
            "checkpoint": hashlib.sha256((checkpoint / MANIFEST).read_bytes()).hexdigest(),
            "changed": {key: list(values) for key, values in changed.items()},
        }
        kept = {key: value for key, value in record.items() if key not in (*BOUND.values(), HELD_OUT)}
        kept = with_changes(kept, judging_groups(changed), step_of(origin.checkpoint))
        memory = {**record.get("memory", {}), "measured_mib": None}
        write_record(scratch, kept | {"command": list(command), "memory": memory, PARENT: parent})
        write_config(scratch, json.dumps(config.model_dump(mode="json"), indent=2) + "\n")
        for path in (*scratch.rglob("*"), scratch):
            DISK.sync(path)
        DISK.rename(scratch, folder)
    DISK.sync(folder.parent)


def parent_of(folder: Path) -> Parent | None:
    """Read the parent of the run in this folder; None for a run that is no fork."""
    told = read_object(folder / RECORD).get(PARENT)
    try:
        return Parent(Path(told["folder"]), told["step"], told["checkpoint"], told["changed"]) if told else None
    except (KeyError, TypeError):
        return None


def fork_point(one: Path, other: Path) -> int | None:
    """The step up to which two runs are the same: of parent and fork, or of two forks; None for other runs."""
    parents = parent_of(one), parent_of(other)
    if parents[0] and parents[1] and parents[0].checkpoint == parents[1].checkpoint:
        return parents[0].step
    for run, parent in ((one, parents[1]), (other, parents[0])):
        if parent is not None and _is_of(run, parent):
            return parent.step
    return None


def _is_of(run: Path, parent: Parent) -> bool:
    """Whether a fork's parent is the run in this folder; it may have been moved since."""
    manifest = folder_of(run / CHECKPOINTS, parent.step) / MANIFEST
    is_moved = manifest.is_file() and hashlib.sha256(manifest.read_bytes()).hexdigest() == parent.checkpoint
    return run.absolute() == parent.folder or is_moved


def newest_in_both(one: Path, other: Path, after: int) -> tuple[Evaluation, Evaluation] | None:
    """The evaluations of two runs at the newest step after `after` that both evaluated; None without one."""
    evaluations = [{each.step: each for each in read_evaluations(run) if each.step > after} for run in (one, other)]
    both = evaluations[0].keys() & evaluations[1].keys()
    return (evaluations[0][max(both)], evaluations[1][max(both)]) if both else None
