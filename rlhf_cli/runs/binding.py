"""Bind a run's files to the run: a config.json or run.json that the run did not write is refused.

run.json lists the SHA-256 of every config.json that the run has had, and ends with a hash of its own. It is written
before config.json, so it lists the config.json that a kill leaves. The manifest of a checkpoint names the config.json
of its moment, so both files of another run do not fit either. Files of earlier versions have no hashes: no check.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

from rlhf_cli.errors import UserError, bad_run
from rlhf_cli.runs.checkpoint import read_bound, step_of
from rlhf_cli.runs.disk import DISK, Disk, replace_file
from rlhf_cli.runs.folder import CONFIG, EVALUATIONS, RECORD, RESULT, WANDB_ID
from rlhf_cli.runs.json_files import content_of, read_object, write_json

CONFIGS: Final = "configs"
"""Key of run.json: the SHA-256 of every config.json that the run has had."""
BOUND: Final[Mapping[str, str]] = {RESULT: "result", WANDB_ID: "wandb", EVALUATIONS: "evaluations"}
"""Files that come later, each with the key of run.json that then has its SHA-256: that of their last end."""
HELD_OUT: Final = "held_out"
"""Key of run.json: the held-out prompts, once the run has ended."""
PARENT: Final = "parent"
"""Key of run.json: the run that a fork began from: its folder, step, checkpoint, and the changed settings."""
CHANGED: Final = "changed"
"""Key of run.json: the groups of settings by which evaluations judge, each with the step after which it last changed.
Evaluations before and after that step cannot be compared."""
OBJECTS: Final = ("model", "data", "reward", "memory", "reference", PARENT, CHANGED)
LISTS: Final = (CONFIGS, HELD_OUT, "command")
MOST_STEPS: Final = 10**6
"""Earlier numbers of steps are looked for below it, which takes two seconds; a run with a time limit may have any."""
OWN: Final = "sha256"
"""Last key of run.json: the SHA-256 of all others."""


def read_record(folder: Path) -> dict[str, Any]:
    """Read run.json; empty where it is missing or no JSON. Raises UserError (exit 5) where it was changed.

    One without a hash of its own is of an earlier version, or nobody's: its lists and objects must be such.
    """
    record = read_object(folder / RECORD)
    is_odd = any(not isinstance(record.get(name, {}), dict) for name in OBJECTS) or any(
        not (isinstance(texts := record.get(name, []), list) and all(isinstance(text, str) for text in texts))
        for name in LISTS
    )
    if is_odd or (OWN in record and record[OWN] != own_hash(record)):
        raise changed(RECORD, folder)
    return record


def read_hash(folder: Path, name: str, key: str = "sha256") -> Any:
    """Read the hash of the run's `data`, `model` or `reward` from run.json; None where it has none.

    Raises UserError as `read_record` does.
    """
    told = read_record(folder).get(name)
    return told.get(key) if isinstance(told, dict) else None


def write_record(folder: Path, record: Mapping[str, Any], disk: Disk = DISK) -> None:
    """Write run.json, with its own hash as the last key."""
    rest = {key: value for key, value in record.items() if key != OWN}
    write_json(folder / RECORD, rest | {OWN: own_hash(rest)}, disk=disk)


def with_changes(record: Mapping[str, Any], groups: Collection[str], step: int) -> dict[str, Any]:
    """The record of a run that goes on after `step` with other settings in some groups; the same where there are none.

    A run that goes on from before an earlier change has that change now.
    """
    changes = {**record.get(CHANGED, {}), **dict.fromkeys(groups, step)}
    changes = {group: min(at, step) for group, at in changes.items() if step}  # step 0 is evaluated anew
    return {**record, CHANGED: changes} if changes or CHANGED in record else dict(record)


def last_change(folder: Path, groups: Collection[str] | None = None) -> int:
    """The last step after which one of these groups changed, of all unless given; -1 where none has."""
    changes = read_object(folder / RECORD).get(CHANGED)
    steps = changes.items() if isinstance(changes, dict) else ()
    return max((at for group, at in steps if isinstance(at, int) and (groups is None or group in groups)), default=-1)


def write_config(folder: Path, text: str, disk: Disk = DISK) -> str:
    """List config.json in run.json, then write it; returns its SHA-256. Raises OSError where the disk refuses."""
    sha256 = _sha256(text.encode())
    record = read_record(folder)
    if record:
        known = record.get(CONFIGS)
        if known is None:  # of an earlier version: its present config.json counts as its own
            known = [_sha256(content_of(folder / CONFIG))]
        if sha256 not in known:
            write_record(folder, record | {CONFIGS: [*known, sha256]}, disk)
    replace_file(folder / CONFIG, text, disk)
    return sha256


def check_config(folder: Path, content: bytes, checkpoint: Path | None) -> None:
    """Raise UserError (exit 5) where `content` is no config.json of the run, or run.json and checkpoint do not fit."""
    known = read_record(folder).get(CONFIGS) or []
    bound = read_bound(checkpoint).get(CONFIG) if checkpoint else None
    if (known or bound) and _sha256(content) not in (known or [bound]):
        raise changed(CONFIG, folder, "; settings change on the command line alone")
    if checkpoint and known and bound and bound not in known:
        raise bad_run(
            f"{RECORD} and the checkpoint are not of one run",
            checkpoint,
            f"bring back {RECORD} as it was, or resume from another checkpoint of the run",
        )


def read_steps_of(folder: Path, checkpoint: Path) -> int | None:
    """The number of steps that the run was to have when it saved the checkpoint: a resume may have changed it.

    It is the one with which config.json has the hash that the checkpoint names; None where more than it changed since.
    """
    content = content_of(folder / CONFIG)
    steps: int = json.loads(content)["steps"]
    bound = read_bound(checkpoint).get(CONFIG, _sha256(content))
    before, key, after = content.partition(b'\n  "steps": ')
    after = after.removeprefix(b"%d" % steps)
    tries = chain((steps,), range(step_of(checkpoint), min(max(10 * steps, 10_000), MOST_STEPS)))
    return next((n for n in tries if _sha256(before + key + b"%d" % n + after) == bound), None)


def bind(folder: Path, *names: str) -> None:
    """Add the hashes of files, some of BOUND, to run.json."""
    if record := read_record(folder):
        write_record(folder, record | {BOUND[name]: _sha256(content_of(folder / name)) for name in names})


def is_own(folder: Path, name: str) -> bool:
    """Whether a file, one of BOUND, is as the run wrote it; True where run.json has no hash of it."""
    noted = read_record(folder).get(BOUND[name])
    return noted is None or noted == _sha256(content_of(folder / name))


def own_hash(record: Mapping[str, Any]) -> str:
    """The SHA-256 of a JSON object without the key that holds it."""
    rest = {key: value for key, value in record.items() if key != OWN}
    return _sha256(json.dumps(rest, sort_keys=True).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def changed(name: str, folder: Path, more: str = "", of: str = "run") -> UserError:
    """The error (exit 5) of a file that is not what the run, or the sweep, wrote."""
    fix = f"bring back the file as it was, or start a new {of}{more}"
    return bad_run(f"{name} is not what the {of} wrote", folder / name, fix)
