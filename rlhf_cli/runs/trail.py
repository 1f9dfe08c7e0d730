"""Check every file of a run against the hashes that the run left of it."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rlhf_cli.errors import UserError
from rlhf_cli.runs.binding import BOUND, changed, check_config, is_own
from rlhf_cli.runs.checkpoint import step_of
from rlhf_cli.runs.folder import ADAPTER, CONFIG, EVALUATIONS, LOGS
from rlhf_cli.runs.json_files import content_of
from rlhf_cli.runs.logbook import Mark
from rlhf_cli.runs.result import read_final_steps
from rlhf_cli.runs.resume import find_adapter


def find_changed(folder: Path, checkpoints: Sequence[tuple[Path, Mapping[str, Mark]]]) -> dict[str, str]:
    """Find the files that are not what the run wrote, each with the reason.

    `checkpoints` are valid ones, with where each log ended. A file without a hash, of an earlier version, counts as the
    run's.
    """
    found: dict[str, str] = {}
    ordered = sorted(checkpoints, key=lambda pair: step_of(pair[0]))
    for path, _ in ordered:
        found |= _refused(check_config, folder, content_of(folder / CONFIG), path)
    found |= {name: changed(name, folder).what for name in BOUND if name != EVALUATIONS and not is_own(folder, name)}
    if (folder / ADAPTER).is_dir():
        found |= _refused(find_adapter, folder)
    steps = read_final_steps(folder)
    ended = bool(ordered) and steps is not None and step_of(ordered[-1][0]) == steps[0]
    for name, file in LOGS.items():
        # a run that ends where no evaluation was due has one behind its last checkpoint
        is_whole = ended and not (file == EVALUATIONS and is_own(folder, file))
        reason = next(_differences(content_of(folder / file), name, ordered, is_whole), None)
        if reason:
            found[file] = reason
    return found


def _differences(
    content: bytes, name: str, checkpoints: Sequence[tuple[Path, Mapping[str, Mark]]], ended: bool
) -> Iterator[str]:
    """Say how a log differs from what each checkpoint saw of it, oldest first."""
    digest, done = hashlib.sha256(), 0
    for path, marks in checkpoints:
        mark = marks.get(name, Mark())
        digest.update(content[done : mark.size])
        done = max(done, mark.size)
        if digest.hexdigest() != mark.sha256:
            yield f"is not what {path.name} saw"
    if ended and len(content) > done:
        yield f"goes on behind {checkpoints[-1][0].name}, where the run ended"


def _refused(check: Callable[..., object], folder: Path, *more: object) -> dict[str, str]:
    """The file of the run that a check refuses, with the reason; empty where it refuses nothing."""
    try:
        check(folder, *more)
    except UserError as error:
        return {os.path.relpath(error.where, folder): error.what}
    return {}
