"""`rlhf train`: one run, a multirun (-m), or a run continued (resume=)."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rlhf_cli.commands.ready import check_sources
from rlhf_cli.commands.sweeping import open_sweep
from rlhf_cli.config.compose import amend
from rlhf_cli.config.launch import Launch, launch
from rlhf_cli.config.security import refuse_unsaid_trust
from rlhf_cli.display.tables import show_result
from rlhf_cli.display.watchers import watcher
from rlhf_cli.errors import EXIT_DONE, EXIT_RESUME, UserError, disk_errors, visible
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.models.location import code_notice
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.prompts.rows import check_enough, read_rows
from rlhf_cli.report import writing
from rlhf_cli.rewards.execution.scorer import Scorer
from rlhf_cli.runs.changes import FINGERPRINT_VARIABLE, fingerprint, resume_config
from rlhf_cli.runs.checkpoint import find_newest, step_of
from rlhf_cli.runs.folder import CHECKPOINTS, REPORT, REWARD_LOG
from rlhf_cli.runs.lock import hold
from rlhf_cli.runs.result import Result
from rlhf_cli.runs.resume import Origin, find_origin, holds_run, is_checkpoint, is_finished, read_config
from rlhf_cli.runs.sinks import check_sinks
from rlhf_cli.schema import RunConfig


def main(argv: list[str]) -> int:
    """Run it; what can be refused is refused before any folder is made."""
    begun = time.monotonic()
    targets = [argument.removeprefix("resume=").strip("'\"") for argument in argv if argument.startswith("resume=")]
    if targets and targets[-1] not in ("auto", "null"):
        _resume(targets[-1], [argument for argument in argv if not argument.startswith("resume=")], begun)
    else:
        launch(argv, lambda job: _launched(job, begun), check=_check, sweep=open_sweep)
    return EXIT_DONE


def _check(config: RunConfig) -> None:
    """What can be refused before anything is written."""
    if config.resume not in (None, "auto"):
        raise UserError("a run is continued from the command line alone", where="resume", fix="rlhf train resume=RUN")
    if config.resume == "auto" and config.run_dir is None and config.sweep_dir is None:
        raise UserError("resume=auto needs a folder to find its run in", where="resume", fix="add run_dir=FOLDER")
    wanted = os.environ.pop(FINGERPRINT_VARIABLE, "")
    if wanted and wanted != fingerprint(config):
        raise UserError("the settings are not those that the sweep began with", fix="give the sweep's command again")
    if config.run_dir is not None:
        _origin(config, Path(config.run_dir))
    check_sinks(config.sinks)
    check_sources(config)
    rows = read_rows(config)
    check_enough(rows, [len(part.train) for part in rows.parts], config)


def _origin(config: RunConfig, folder: Path) -> tuple[RunConfig, Origin | None]:
    """The config to work with in `folder`, and where to go on or None; raises UserError for a run to be left alone."""
    if not holds_run(folder):
        return config, None
    if config.resume != "auto":
        raise UserError(
            f"{folder} holds a run already",
            where="run_dir",
            fix=f"continue it by resume={folder}, or give another folder",
        )
    return resume_config(amend(read_config(folder), ()), config), find_origin(str(folder))


def _title(config: RunConfig, folder: Path) -> str:
    model = Path(config.model.path).name if config.model.kind == "pretrained" else "tiny"
    return f"{config.algorithm.kind} · {model} · {config.reward.source.kind} · {folder.name}"


def _concluded(folder: Path, steps: int) -> Result | None:
    """The result of a finished run; None where the run was stopped before it, or went on since."""
    result = Result.read(folder)
    return result if result is not None and result.step >= steps else None


def _launched(job: Launch, begun: float) -> None:
    assert job.config.run_dir is not None
    folder = Path(job.config.run_dir)
    _run(job.config, folder, lambda: _origin(job.config, folder), job.source, begun)


def _resume(target: str, overrides: Sequence[str], begun: float) -> None:
    if {"-m", "--multirun"} & set(overrides):
        raise UserError("resume= continues one run, -m starts many", where="resume", fix="leave one of them out")
    if any(override.startswith(("run_dir=", "sweep_dir=")) for override in overrides):
        raise UserError("a run goes on in its own folder", where="resume", fix="leave run_dir and sweep_dir out")
    first = find_origin(target)

    def origin() -> tuple[RunConfig, Origin]:
        saved = read_config(first.folder)
        config = amend(saved, overrides)
        refuse_unsaid_trust(config, overrides, EXIT_RESUME)
        again = find_origin(str(first.checkpoint if is_checkpoint(target) else first.folder))
        return resume_config(amend(saved, ()), config), again

    config, _ = origin()
    check_sinks(config.sinks)
    check_sources(config)
    _run(config, first.folder, origin, None, begun)


def _run(
    config: RunConfig,
    folder: Path,
    origin_of: Callable[[], tuple[RunConfig, Origin | None]],
    source: Path | None,
    begun: float,
) -> None:
    """Train, or finish what was begun, in a folder that no other process uses meanwhile.

    Where to go on is only found out there: until then another process may have been at work.
    """
    loud, trained = config.display not in ("json", "quiet"), False
    signals = StopSignals(config.time_limit, begun)
    with signals.installed(), _what_is_left(folder), disk_errors(), hold(folder):
        config, origin = origin_of()
        if origin is not None and is_finished(origin, config) and (result := _concluded(folder, config.steps)):
            if loud:
                print(f"{folder} is finished: all {config.steps} steps are done, nothing was changed")
        else:
            if source is not None and source.parent != folder:
                shutil.copyfile(source, folder / source.name)
            result = _train(config, folder, origin, signals)
            trained = True
    if trained:
        _write_page(folder)
    if loud:
        show_result(result, folder)


def _write_page(folder: Path) -> None:
    """The run as a page; without it the run is as good."""
    try:
        writing.write_page(folder / REPORT, writing.page_of([folder]), overwrite=False)
    except Exception as error:  # whatever it is, the run is finished and saved
        said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        print(visible(f"note: no {REPORT}: {said}"), file=sys.stderr)


def _train(config: RunConfig, folder: Path, origin: Origin | None, signals: StopSignals) -> Result:
    rows = read_rows(config)
    watch = watcher(config.display, title=_title(config, folder), total=config.steps)
    try:
        if origin is not None:
            watch.note(origin.describe())
            if read_config(folder)["steps"] != config.steps and _depends_on_steps(config):
                watch.note(
                    "the schedules depend on steps, which changed: they go on as if it had been so from the start"
                )
        if notice := code_notice(config.model):
            watch.note(notice)
        if notice := config.reward.source.notice(REWARD_LOG):
            watch.note(notice)
        with Scorer(config.reward, rows.columns, folder / REWARD_LOG) as scorer:
            with watch.phase("loading torch and transformers", 0):
                import_libraries()
                from rlhf_cli.pipeline.assemble import assemble
                from rlhf_cli.pipeline.conclude import conclude
                from rlhf_cli.pipeline.loop import train
            run = assemble(config, rows, folder, scorer, watch, signals, origin)
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
        newest = find_newest(folder / CHECKPOINTS).folder
        error.saved = f"step {step_of(newest)}" if newest else ""
        raise
