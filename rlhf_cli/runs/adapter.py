"""Find the adapter that a path means: a run, its exported adapter, or one of its checkpoints."""

from __future__ import annotations

from pathlib import Path

from rlhf_cli.errors import EXIT_RESUME, UserError
from rlhf_cli.runs.checkpoint import find_newest, step_of
from rlhf_cli.runs.folder import ADAPTER, CHECKPOINTS
from rlhf_cli.runs.result import Result
from rlhf_cli.runs.resume import find_origin, holds_run


def find_adapter(path: Path) -> tuple[Path, Path]:
    """The PEFT folder and its run. A run's folder means its newest adapter, exported or of a checkpoint.

    Raises UserError (exit 5) where there is none.
    """
    if not path.is_dir():
        raise UserError("no such folder", where=str(path), fix="name a run's folder", exit_code=EXIT_RESUME)
    run = path.parent if path.name == ADAPTER else path
    final = run / ADAPTER
    if not (holds_run(run) and final.is_dir()):
        origin = find_origin(str(path))
        return origin.checkpoint, origin.folder
    newest, result = find_newest(run / CHECKPOINTS).folder, Result.read(run)
    if path == final or newest is None or (result is not None and step_of(newest) <= result.step):
        return final, run
    return newest, run  # it went on since the adapter was exported
