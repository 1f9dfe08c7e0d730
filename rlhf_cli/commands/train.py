"""`rlhf train`: one run, a multirun (-m), or a run continued (resume=)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rlhf_cli.checkpoint import CHECKPOINTS, locked, newest_valid, step_of
from rlhf_cli.config.compose import Launch, amend, launch
from rlhf_cli.config.security import refuse_unsaid_trust
from rlhf_cli.display.tables import show_result
from rlhf_cli.display.watchers import watcher
from rlhf_cli.errors import EXIT_DONE, EXIT_RESUME, UserError, disk_errors
from rlhf_cli.models.source import code_notice
from rlhf_cli.models.source import find as find_model
from rlhf_cli.pipeline.result import RESULT, Result
from rlhf_cli.pipeline.resume import Origin, find, holds_run, is_finished, refuse_changes, saved_config
from rlhf_cli.pipeline.rows import check_enough, read_rows
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.rewards.judge import REWARD_LOG, Judge
from rlhf_cli.schema import RunConfig


def main(argv: list[str]) -> int:
    """Run it; what can be refused is refused before any folder is made."""
    targets = [argument.removeprefix("resume=").strip("'\"") for argument in argv if argument.startswith("resume=")]
    if targets and targets[-1] not in ("auto", "null"):
        _resume(targets[-1], [argument for argument in argv if not argument.startswith("resume=")])
    else:
        launch(argv, _launched, check=_check)
    return EXIT_DONE


def _check(config: RunConfig) -> None:
    """What can be refused before anything is written."""
    if config.resume not in (None, "auto"):
        raise UserError("a run is continued from the command line alone", where="resume", fix="rlhf train resume=RUN")
    if config.resume == "auto" and config.run_dir is None and config.sweep_dir is None:
        raise UserError("resume=auto needs a folder to find its run in", where="resume", fix="add run_dir=FOLDER")
    if config.run_dir is not None:
        _origin(config, Path(config.run_dir))
    if config.model.kind == "pretrained":
        find_model(config.model)
    if config.reward.kind == "python":
        config.reward.find()
    check_enough(len(read_rows(config).train), config)


def _origin(config: RunConfig, folder: Path) -> Origin | None:
    """Where to go on in `folder`, or None; raises UserError for a run there that may not be touched."""
    if not holds_run(folder):
        return None
    if config.resume != "auto":
        raise UserError(
            f"{folder} holds a run already",
            where="run_dir",
            fix=f"continue it by resume={folder}, or give another folder",
        )
    origin = find(str(folder))
    refuse_changes(amend(saved_config(folder), ()), config)
    return origin


def _title(config: RunConfig, folder: Path) -> str:
    model = Path(config.model.path).name if config.model.kind == "pretrained" else "tiny"
    return f"{config.algorithm.kind} · {model} · {config.reward.kind} · {folder.name}"


def _concluded(folder: Path, steps: int) -> Result | None:
    """The result of a finished run; None where the run was stopped before it, or went on since."""
    result = Result.read(folder) if (folder / RESULT).is_file() else None
    return result if result is not None and result.step >= steps else None


def _launched(job: Launch) -> None:
    assert job.config.run_dir is not None
    config, folder = job.config, Path(job.config.run_dir)
    origin = _origin(config, folder)
    if origin is not None and config.microbatch_size == "auto":
        # Resolved when the run began, and part of what makes it repeatable.
        saved = amend(saved_config(folder), ())
        config = config.model_copy(update={"microbatch_size": saved.microbatch_size})
    _run(config, folder, origin, job.source)


def _resume(target: str, overrides: Sequence[str]) -> None:
    if {"-m", "--multirun"} & set(overrides):
        raise UserError("resume= continues one run, -m starts many", where="resume", fix="leave one of them out")
    if any(override.startswith(("run_dir=", "sweep_dir=")) for override in overrides):
        raise UserError("a run goes on in its own folder", where="resume", fix="leave run_dir and sweep_dir out")
    origin = find(target)
    saved = amend(saved_config(origin.folder), ())
    config = amend(saved_config(origin.folder), overrides)
    refuse_unsaid_trust(config, overrides, EXIT_RESUME)
    refuse_changes(saved, config)
    _run(config, origin.folder, origin, None)


def _run(config: RunConfig, folder: Path, origin: Origin | None, source: Path | None) -> None:
    """Train, or finish what was begun, in a folder that no other process uses meanwhile."""
    loud = config.display not in ("json", "quiet")
    signals = StopSignals(config.time_limit)
    with signals.installed(), _what_is_left(folder), disk_errors(), locked(folder):
        if origin is not None and is_finished(origin, config) and (result := _concluded(folder, config.steps)):
            if loud:
                print(f"{folder} is finished: all {config.steps} steps are done, nothing was changed")
        else:
            if source is not None and source.parent != folder:
                shutil.copyfile(source, folder / source.name)
            result = _train(config, folder, origin, signals)
    if loud:
        show_result(result, folder)


def _train(config: RunConfig, folder: Path, origin: Origin | None, signals: StopSignals) -> Result:
    rows = read_rows(config)
    watch = watcher(config.display, title=_title(config, folder), total=config.steps)
    try:
        if origin is not None:
            watch.note(origin.said())
            if saved_config(folder)["steps"] != config.steps and _depends_on_steps(config):
                watch.note(
                    "the schedules depend on steps, which changed: they go on as if it had been so from the start"
                )
        if notice := code_notice(config.model):
            watch.note(notice)
        if config.reward.kind == "python":
            watch.note(config.reward.notice(REWARD_LOG))
        with Judge(config.reward, rows.columns, folder / REWARD_LOG) as judge:
            with watch.phase("loading torch and transformers", 0):
                from rlhf_cli.pipeline.assemble import assemble
                from rlhf_cli.pipeline.conclude import conclude
                from rlhf_cli.pipeline.loop import train
            run = assemble(config, rows, folder, judge, watch, signals, origin)
            train(run)
            return conclude(run)
    finally:
        watch.close()


def _depends_on_steps(config: RunConfig) -> bool:
    return {config.beta.kind, config.temperature.kind, config.optimizer.schedule} != {"constant"}


@contextmanager
def _what_is_left(folder: Path) -> Iterator[None]:
    """A mistake that ends a run says which checkpoint it can be continued from."""
    try:
        yield
    except UserError as error:
        newest = newest_valid(folder / CHECKPOINTS).folder
        error.saved = f"step {step_of(newest)}" if newest else ""
        raise
