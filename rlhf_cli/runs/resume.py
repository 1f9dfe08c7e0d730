"""Which run and which checkpoint to continue, and what may differ from the run as it was."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rlhf_cli.errors import EXIT_RESUME, UserError
from rlhf_cli.runs.checkpoint import NAME, Found, checkpoints, is_locked, newest_valid, step_of, verify
from rlhf_cli.runs.folder import CHECKPOINTS, CONFIG, METRICS, RESULT
from rlhf_cli.schema import RunConfig

SETTINGS: Final = "RLHF_SETTINGS"
"""The environment variable that gives a trial the fingerprint of the settings that its sweep has checked."""
FREE: Final = (
    "steps", "checkpoint", "evaluate.every", "log_samples", "time_limit", "profile", "display", "run_dir", "sweep_dir",
    "resume", "resume_allow", "seeds", "jobs", "sinks",
)  # fmt: skip
"""Keys (with everything below them) that a resumed run may change without being asked.

evaluate.every is not free where it decides whether prompts are set aside: that would change the training data.
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where to continue: a run's folder, and the checkpoint to continue from."""

    folder: Path
    checkpoint: Path
    skipped: tuple[tuple[Path, str], ...]

    def said(self) -> str:
        """One line about it."""
        skipped = "".join(f" (skipped {folder.name}: {reason})" for folder, reason in self.skipped)
        return f"resumed from step {step_of(self.checkpoint)}{skipped}"


def find(target: str) -> Origin:
    """The origin that `resume=target` means: a run's folder, a checkpoint's folder, or `latest`.

    That is the newest unfinished run under outputs/ that no process works on.
    Raises UserError (exit 5) where there is no run or no checkpoint that verifies.
    """
    if target == "latest":
        return _origin(_latest(Path("outputs")))
    folder = Path(target).expanduser().absolute()
    if names_checkpoint(target):
        reason = verify(folder)
        if reason is not None:
            raise _error(
                f"the checkpoint cannot be used: {reason}", folder, "name the run's folder to take an older one"
            )
        return Origin(_run(folder.parent.parent), folder, ())
    return _origin(_run(folder))


def names_checkpoint(target: str) -> bool:
    """Whether `resume=target` means one checkpoint, rather than a run."""
    return NAME.fullmatch(Path(target).expanduser().absolute().name) is not None


def last_two(run: Path) -> tuple[Origin, Path]:
    """Where the last stretch of a run began, and the checkpoint it ended with: the two newest that verify.

    Raises UserError (exit 5) where there is no run, or fewer than two.
    """
    folder = _run(run.expanduser().absolute())
    found = [(path, verify(path)) for path in checkpoints(folder / CHECKPOINTS)]
    valid = [path for path, reason in found if reason is None]
    if len(valid) < 2:
        said = "; ".join([f"{len(valid)} usable", *(f"{path.name}: {reason}" for path, reason in found if reason)])
        raise _error(f"two checkpoints are needed: {said}", folder, "go on with it: rlhf train resume=RUN")
    newer, older, *_ = valid
    skipped = tuple((path, reason) for path, reason in found if reason and step_of(path) > step_of(older))
    return Origin(folder, older, skipped), newer


def holds_run(folder: Path) -> bool:
    """Whether there is anything of a run here that a new one would spoil: its checkpoints, or what it wrote down."""
    written = folder / METRICS
    begun = bool(checkpoints(folder / CHECKPOINTS)) or (written.is_file() and written.stat().st_size > 0)
    return (folder / CONFIG).is_file() and begun


def saved_config(folder: Path) -> dict[str, Any]:
    """The run's config as plain data; raises UserError (exit 5) where it is not readable."""
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("not a mapping of settings")
    except (OSError, ValueError, RecursionError) as error:
        raise _error(f"{CONFIG} cannot be read: {error}", folder, "name another run") from error
    return config


def continued(saved: RunConfig, wanted: RunConfig) -> RunConfig:
    """The config to continue with: as wanted, `auto` as it was resolved when the run began.

    Raises UserError (exit 5) naming every key that changes the run and was not allowed to by resume_allow.
    """
    if wanted.microbatch_size == "auto":
        wanted = wanted.model_copy(update={"microbatch_size": saved.microbatch_size})
    _refuse_changes(saved, wanted)
    return wanted


def _refuse_changes(saved: RunConfig, wanted: RunConfig) -> None:
    before, after = saved.model_dump(mode="json"), wanted.model_dump(mode="json")
    keys = {*_keys(before), *_keys(after)}
    for name in wanted.resume_allow:
        if not any(_under(key, (name,)) for key in keys):
            near = difflib.get_close_matches(name, keys, n=1)
            raise UserError(
                f"unknown setting '{name}'" + (f"; did you mean {near[0]}?" if near else ""), where="resume_allow"
            )
    sets_aside = {bool(config.evaluate.every) and config.data.sets_aside for config in (saved, wanted)}
    free = FREE if len(sets_aside) == 1 else tuple(key for key in FREE if key != "evaluate.every")
    changed = [
        f"{key}: {old} -> {new}"
        for key, old, new in _differences(before, after)
        if not _under(key, free) and not _under(key, wanted.resume_allow)
    ]
    if changed:
        raise UserError(
            f"the resumed run would not be the same: {'; '.join(changed)}",
            where="resume",
            fix="leave these as they were, start a new run, or name them in resume_allow=[...]",
            exit_code=EXIT_RESUME,
        )


def is_finished(origin: Origin, config: RunConfig) -> bool:
    """Whether no step is left to do."""
    return step_of(origin.checkpoint) >= config.steps


def _origin(folder: Path) -> Origin:
    found: Found = newest_valid(folder / CHECKPOINTS)
    if found.folder is None:
        reasons = "; ".join(f"{path.name}: {reason}" for path, reason in found.skipped)
        raise _error(f"no usable checkpoint{': ' + reasons if reasons else ''}", folder, "start a new run")
    return Origin(folder, found.folder, found.skipped)


def _run(folder: Path) -> Path:
    if not holds_run(folder):
        raise _error("no run here", folder, "name a run's folder, or one of its checkpoints")
    return folder


def _latest(outputs: Path) -> Path:
    runs = (
        sorted(outputs.rglob(CONFIG), key=lambda file: file.stat().st_mtime, reverse=True) if outputs.is_dir() else []
    )
    at_work = False
    for run in (file.parent.absolute() for file in runs):
        newest, steps = newest_valid(run / CHECKPOINTS).folder, saved_config(run).get("steps")
        if newest is not None and isinstance(steps, int) and (step_of(newest) < steps or not (run / RESULT).is_file()):
            if not is_locked(run):
                return run
            at_work = True
    what = "no unfinished run that is not at work" if at_work else "no unfinished run"
    raise _error(what, outputs.absolute(), "name the run's folder: resume=RUN")


def is_free(key: str) -> bool:
    """Whether a resumed run may change this key without being asked."""
    return _under(key, FREE)


def fingerprint(config: RunConfig) -> str:
    """A hash of all that a resumed run may not change without being asked."""
    bound = {key: value for key, value in config.model_dump(mode="json").items() if not is_free(key)}
    return hashlib.sha256(json.dumps(bound, sort_keys=True).encode()).hexdigest()


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield prefix + key, before, after


def _keys(settings: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in settings.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")


def _under(key: str, roots: tuple[str, ...]) -> bool:
    return any(key == root or key.startswith(f"{root}.") for root in roots)


def _error(what: str, folder: Path, fix: str) -> UserError:
    return UserError(what, where=str(folder), fix=fix, exit_code=EXIT_RESUME)
