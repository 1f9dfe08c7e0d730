"""`rlhf train`: one run, a multirun (-m), or a run continued (resume=)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from rlhf_cli.checkpoint import locked
from rlhf_cli.config.compose import Launch, amend, launch
from rlhf_cli.display import show_result, watcher
from rlhf_cli.errors import EXIT_DONE, UserError
from rlhf_cli.pipeline.result import RESULT, Result
from rlhf_cli.pipeline.resume import Origin, find, holds_run, is_finished, refuse_changes, saved_config
from rlhf_cli.pipeline.rows import read_rows
from rlhf_cli.schema import RunConfig


def main(argv: list[str]) -> int:
    """Run it; the config is validated, and the prompts are read, before any folder is made."""
    targets = [argument.removeprefix("resume=").strip("'\"") for argument in argv if argument.startswith("resume=")]
    if targets and targets[-1] not in ("auto", "null"):
        _resume(targets[-1], [argument for argument in argv if not argument.startswith("resume=")])
    else:
        launch(argv, _launched, check=_check)
    return EXIT_DONE


def _check(config: RunConfig) -> None:
    """What can be refused before anything is written."""
    if config.resume != "auto" and config.run_dir is not None and holds_run(Path(config.run_dir)):
        raise UserError(
            f"{config.run_dir} holds a run already",
            where="run_dir",
            fix=f"continue it by resume={config.run_dir}, or give another folder",
        )
    read_rows(config)


def _title(config: RunConfig, folder: Path) -> str:
    model = Path(config.model.path).name if config.model.kind == "pretrained" else "tiny"
    return f"{config.algorithm.kind} · {model} · {config.reward.kind} · {folder.name}"


def _concluded(folder: Path, steps: int) -> Result | None:
    """The result of a finished run; None where the run was stopped before it, or went on since."""
    result = Result.read(folder) if (folder / RESULT).is_file() else None
    return result if result is not None and result.step >= steps else None


def _launched(job: Launch) -> None:
    assert job.config.run_dir is not None
    folder = Path(job.config.run_dir)
    if job.source is not None:
        shutil.copyfile(job.source, folder / job.source.name)
    if job.config.resume == "auto" and holds_run(folder):
        origin, saved, config = find(str(folder)), amend(saved_config(folder), ()), job.config
        refuse_changes(saved, config)
        if config.microbatch_size == "auto":  # resolved when the run began, and part of what makes it repeatable
            config = config.model_copy(update={"microbatch_size": saved.microbatch_size})
        _run(config, folder, origin)
    else:
        _run(job.config, folder, None)


def _resume(target: str, overrides: Sequence[str]) -> None:
    if {"-m", "--multirun"} & set(overrides):
        raise UserError("resume= continues one run, -m starts many", where="resume", fix="leave one of them out")
    origin = find(target)
    saved = saved_config(origin.folder)
    config = amend(saved, overrides)
    refuse_changes(amend(saved, ()), config)
    _run(config, origin.folder, origin)


def _run(config: RunConfig, folder: Path, origin: Origin | None) -> None:
    with locked(folder):
        if origin is not None and is_finished(origin, config) and (done := _concluded(folder, config.steps)):
            print(f"{folder} is finished: all {config.steps} steps are done, nothing was changed")
            show_result(done, folder)
            return
        rows = read_rows(config)
        watch = watcher(config.display, title=_title(config, folder), total=config.steps)
        try:
            if origin is not None:
                watch.note(origin.said())
            with watch.phase("loading torch and transformers", 0):
                from rlhf_cli.pipeline.assemble import assemble
                from rlhf_cli.pipeline.conclude import conclude
                from rlhf_cli.pipeline.loop import train
            run = assemble(config, rows, folder, watch, origin)
            train(run)
            result = conclude(run)
        finally:
            watch.close()
    if config.display not in ("json", "quiet"):
        show_result(result, folder)
