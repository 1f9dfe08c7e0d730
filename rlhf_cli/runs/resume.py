"""Find the run, the checkpoint or the adapter that a user's path means."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

from rlhf_cli.errors import UserError, bad_run
from rlhf_cli.json_text import from_json
from rlhf_cli.paths import expand, find_similar, quoted
from rlhf_cli.runs.binding import OWN, check_config, read_record
from rlhf_cli.runs.checkpoint import NAME, find_newest, folder_of, list_checkpoints, step_of, why_invalid
from rlhf_cli.runs.folder import (
    ADAPTER,
    CHECKPOINTS,
    CONFIG,
    FILES,
    FOLDERS,
    HYDRA,
    LOCK,
    LOGS,
    METRICS,
    RANKS,
    RECORD,
    REPORT,
    REWARD_LOG,
    TENSORBOARD,
    check_kinds,
    find_links,
)
from rlhf_cli.runs.json_files import read_object
from rlhf_cli.runs.kind import is_run, verb_of
from rlhf_cli.runs.listing import list_runs
from rlhf_cli.runs.result import read_final_steps

_BEFORE_CONFIG: Final = (LOCK, HYDRA, REWARD_LOG, RANKS, REPORT)
"""Files of a run that was killed before it wrote its settings; and the page, which replaces only its own."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The place to continue from: a run's folder, and a checkpoint of it."""

    folder: Path
    checkpoint: Path
    skipped: tuple[tuple[Path, str], ...]
    """Newer checkpoints that cannot be used, each with the reason; for `latest` also newer runs."""

    def describe(self) -> str:
        """One line that names the step, the skipped checkpoints, and the links that the run writes through."""
        skipped = "".join(f" (skipped {folder.name}: {reason})" for folder, reason in self.skipped)
        links = "".join(f"; {name} is a link, written to {place}" for name, place in find_links(self.folder).items())
        return f"resumed from step {step_of(self.checkpoint)}{skipped}{links}"


def find_origin(target: str, verb: str = "train") -> Origin:
    """Find where `resume=target` continues: `target` is a run's folder, a checkpoint's folder, or `latest`.

    `latest` is the newest unfinished run of the `verb` under outputs/ that no process works on. Raises UserError (exit
    5) where there is no run or no valid checkpoint.
    """
    if target == "latest":
        return _latest_origin(Path("outputs"), verb)
    folder = expand(target).absolute()
    if is_checkpoint(target):
        if not folder.is_dir():
            there = ", ".join(str(step_of(path)) for path in reversed(list_checkpoints(folder.parent)))
            fix = "name one of them; a run keeps more by checkpoint.keep=N" if there else "name a run's folder"
            what = f"no checkpoint of step {step_of(folder)}; there are: {there or 'none'}"
            raise bad_run(what, folder.parent.parent, fix)
        reason = why_invalid(folder)
        if reason is not None:
            raise bad_run(
                f"the checkpoint cannot be used: {reason}", folder, "name the run's folder to take an older one"
            )
        return Origin(_check_run(folder.parent.parent), folder, ())
    return _newest_origin(_check_run(folder))


def is_checkpoint(target: str) -> bool:
    """Whether `resume=target` means one checkpoint, rather than a run."""
    folder = expand(target).absolute()
    return NAME.fullmatch(folder.name) is not None and not has_run(folder)


def find_checkpoints(run: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Find a run's valid checkpoints, newest first, and the others, each with the reason.

    Raises UserError (exit 5) where there is no run, or no valid checkpoint.
    """
    folder = _check_run(run)
    reasons = [(path, why_invalid(path)) for path in list_checkpoints(folder / CHECKPOINTS)]
    valid = [path for path, reason in reasons if reason is None]
    invalid = [(path, reason) for path, reason in reasons if reason is not None]
    if not valid:
        raise _no_checkpoint(folder, invalid)
    return valid, invalid


def find_last_stretch(run: Path) -> tuple[Origin, Path]:
    """Find the last stretch of a run: from the second newest valid checkpoint to the newest.

    Raises UserError (exit 5) where there is no run, or fewer than two checkpoints verify.
    """
    valid, invalid = find_checkpoints(run)
    folder = valid[0].parent.parent
    if len(valid) < 2:
        usable = "; ".join([f"{len(valid)} usable", *(f"{path.name}: {reason}" for path, reason in invalid)])
        verb = verb_of(read_object(folder / CONFIG))
        raise bad_run(f"two checkpoints are needed: {usable}", folder, f"go on with it: rlhf {verb} resume=RUN")
    newer, older, *_ = valid
    skipped = tuple((path, reason) for path, reason in invalid if step_of(path) > step_of(older))
    return Origin(folder, older, skipped), newer


def find_adapter(path: Path) -> tuple[Path, Path]:
    """Find the PEFT folder that a path means, and its run. A run means its newest adapter, exported or in a checkpoint.

    Raises UserError (exit 5) where there is none.
    """
    if not path.is_dir():
        raise missing_folder(path, str(path))
    run = path.parent if path.name == ADAPTER and not has_run(path) else path
    final = run / ADAPTER
    if not (has_run(run) and final.is_dir()):
        origin = find_origin(str(path))
        return origin.checkpoint, origin.folder
    newest, steps = find_newest(run / CHECKPOINTS).folder, read_final_steps(run)
    if path == final or newest is None or (steps is not None and step_of(newest) <= steps[0]):
        if newest is not None and steps is not None and step_of(newest) == steps[0]:
            _check_export(final, folder_of(run / CHECKPOINTS, steps[1]))
        return final, run
    return newest, run  # the run went on after it exported the adapter


def is_exported(run: Path) -> bool:
    """Whether the adapter that a finished run exported is there, as its checkpoint has it where that is kept."""
    steps = read_final_steps(run)
    try:
        _check_export(run / ADAPTER, folder_of(run / CHECKPOINTS, steps[1]) if steps else run)
    except UserError:
        return False
    return (run / ADAPTER).is_dir()


def _check_export(adapter: Path, checkpoint: Path) -> None:
    """Raise UserError (exit 5) where the exported adapter differs from the checkpoint that it was made from."""
    for source in sorted(checkpoint.glob("adapter_*")):
        file = adapter / source.name
        if not file.is_file() or file.read_bytes() != source.read_bytes():
            what = "is not what the run saved" if file.is_file() else "is missing"
            raise bad_run(f"{file.name} {what}", adapter, f"name the checkpoint: {checkpoint}")


def has_run(folder: Path) -> bool:
    """Whether the folder holds a run that a new one would spoil: its settings, and checkpoints or metrics."""
    metrics = folder / METRICS
    has_begun = bool(list_checkpoints(folder / CHECKPOINTS)) or (metrics.is_file() and metrics.stat().st_size > 0)
    return (folder / CONFIG).is_file() and has_begun


def find_foreign(folder: Path) -> str | None:
    """Find a file that a new run would write over or remove, and that no run left; None where there is none."""
    if is_run(read_object(folder / CONFIG)):  # a start that was killed: all of it is a run's
        return None
    own = (*_BEFORE_CONFIG, *([RECORD] if OWN in read_object(folder / RECORD) else []))
    names = (name for name in (*FILES, *FOLDERS) if name not in own)
    return next((name for name in names if _has_content(folder / name)), None)


def _has_content(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.is_file() and path.stat().st_size > 0


@contextmanager
def remove_stub_on_failure(folder: Path, *own: str) -> Iterator[None]:
    """If the block fails before a run has begun, remove the files of the attempt, and the folder if it is empty then.

    `own` are names of more files that the attempt makes. The reward's output stays: it may say why the attempt failed.
    The caller holds the folder's lock.
    """
    try:
        yield
    except BaseException:
        if not has_run(folder):
            _remove_stub(folder, own)
        raise


def _remove_stub(folder: Path, own: Sequence[str]) -> None:
    with suppress(OSError):
        if (folder / CHECKPOINTS).is_dir():
            (folder / CHECKPOINTS).rmdir()  # where it holds one, all stays
        for name in (HYDRA, TENSORBOARD):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in (LOCK, RECORD, CONFIG, *LOGS.values(), *own):
            (folder / name).unlink(missing_ok=True)
        for log in (folder / REWARD_LOG, *(folder / RANKS).glob("*.log")):
            if log.is_file() and not log.stat().st_size:
                log.unlink()
        if (folder / RANKS).is_dir():
            (folder / RANKS).rmdir()
        folder.rmdir()


def read_config(folder: Path, checkpoint: Path | None = None) -> dict[str, Any]:
    """Read the run's settings as plain data; `dtype` is the one that the run began with.

    Raises UserError (exit 5) where they are unreadable, not those that the run wrote, or not of its `checkpoint`.
    """
    try:
        content = (folder / CONFIG).read_bytes()
        check_config(folder, content, checkpoint)
        config: dict[str, Any] = from_json(content)
        if not isinstance(config, dict):
            raise ValueError("not a mapping of settings")
    except (OSError, ValueError) as error:
        raise bad_run(f"{CONFIG} cannot be read: {error}", folder, "name another run") from error
    if config.get("dtype") == "auto" and (own := read_record(folder).get("dtype")) in ("float32", "bfloat16"):
        config["dtype"] = own  # another machine may choose another one
    return config


def _newest_origin(folder: Path) -> Origin:
    newest = find_newest(folder / CHECKPOINTS)
    if newest.folder is None:
        raise _no_checkpoint(folder, newest.skipped)
    return Origin(folder, newest.folder, newest.skipped)


def _no_checkpoint(folder: Path, invalid: Sequence[tuple[Path, str]]) -> UserError:
    reasons = "; ".join(f"{path.name}: {reason}" for path, reason in invalid)
    return bad_run(f"no usable checkpoint{': ' + reasons if reasons else ''}", folder, "start a new run")


def _check_run(folder: Path) -> Path:
    if not folder.is_dir():
        raise missing_folder(folder, str(folder))
    check_kinds(folder)
    if not has_run(folder):
        below = chain(folder.glob(f"*/{CONFIG}"), folder.glob(f"*/*/{CONFIG}"))  # of a sweep, of rounds, of a day
        has_runs = any(is_run(read_object(file)) for file in below)
        fix = f"name one of those below it: rlhf runs {quoted(folder)} lists them"
        raise bad_run("no run here", folder, fix if has_runs else "name a run's folder, or one of its checkpoints")
    return folder


def _latest_origin(outputs: Path, verb: str) -> Origin:
    """The newest unfinished run of the verb that no process works on; newer runs with a damaged folder are skipped."""
    passed: list[tuple[Path, str]] = []
    at_work = False
    for run in list_runs(outputs.absolute()):
        if run.verb != verb and run.state != "broken":
            continue
        if run.state == "broken" and run.checkpoint is not None:
            passed.append((run.folder, run.reason or ""))
        elif run.state == "stopped":
            origin = _newest_origin(run.folder)
            return replace(origin, skipped=(*passed, *origin.skipped))
        at_work = at_work or run.state == "running"
    what = "no unfinished run that is not at work" if at_work else "no unfinished run"
    raise bad_run(what, outputs.absolute(), "name the run's folder: resume=RUN")


def find_named(word: str) -> Path:
    """Find the path that a command which only reads means; `latest` is the run that changed last, finished or not.

    Raises UserError (exit 5) where there is none under outputs/; any other path need not exist.
    """
    if word != "latest":
        return expand(word).absolute()
    outputs = Path("outputs").absolute()
    folder = next((run.folder for run in list_runs(outputs) if run.state != "broken"), None)
    if folder is None:
        raise bad_run("no run", outputs, "name the run's folder")
    return folder


def missing_folder(path: Path, name: str) -> UserError:
    """Say that there is no folder of that name, and which may be meant."""
    near = None if path.exists() else find_similar(path)
    fix = f"did you mean {near}?" if near else "name a run's folder"
    what = "a file, and no run's folder" if path.exists() else "no such folder"
    return bad_run(what, name, fix)
