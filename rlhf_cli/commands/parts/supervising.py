"""Start or resume a run of supervised training: the part that `sft`, `dpo` and `reward train` share."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rlhf_cli.commands.parts import ready
from rlhf_cli.commands.results.report import write_after_training
from rlhf_cli.config.launch import Launch, launch_one
from rlhf_cli.display.console import reader_may_leave
from rlhf_cli.display.dashboard import LOSSES, PAIRS
from rlhf_cli.display.tables import show_losses
from rlhf_cli.display.watchers import watcher
from rlhf_cli.errors import EXIT_DONE, visible
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.models.location import code_notice, local_path
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.prompts.rows import read_rows
from rlhf_cli.runs.binding import is_own_result
from rlhf_cli.runs.checkpoint import step_of
from rlhf_cli.runs.json_files import finite
from rlhf_cli.runs.reading import read_metrics
from rlhf_cli.runs.resume import Origin, is_checkpoint, read_config
from rlhf_cli.runs.sinks import check_sinks
from rlhf_cli.supervised.lessons import check_lessons
from rlhf_cli.supervised.result import SupervisedResult
from rlhf_cli.supervised.settings import SupervisedConfig
from rlhf_cli.verbs import Verb

SupervisedVerb = Verb[SupervisedConfig]


def run_verb(verb: SupervisedVerb, argv: Sequence[str]) -> int:
    """Start or resume the run of a command line, `verb` left out; refuse mistakes before any folder is made."""
    begun = time.monotonic()
    if (target := ready.resume_target(argv)) is not None:
        _resume(verb, target, [argument for argument in argv if not argument.startswith("resume=")], begun)
    else:
        launch_one(
            verb,
            argv,
            lambda job: _launched(job, begun),
            check=lambda config: ready.check_new_training(config, verb),
        )
    return EXIT_DONE


def _launched(job: Launch[SupervisedConfig], begun: float) -> None:
    run_in_its_folder(job.verb, job.config, begun, job.source, job.command)


def run_in_its_folder(
    verb: SupervisedVerb,
    config: SupervisedConfig,
    begun: float,
    source: Path | None = None,
    command: Sequence[str] = (),
) -> None:
    """Start the run of a checked config in its `run_dir`, or go on with it where `resume` is auto.

    `source` is the user's file that it was composed from, and `command` what began it.
    """
    assert config.run_dir is not None
    folder = Path(config.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    _run(verb, config, folder, lambda: ready.find_run_in(folder, config, verb), source, command, begun)


def _resume(verb: SupervisedVerb, target: str, overrides: list[str], begun: float) -> None:
    config, origin = ready.find_run_to_resume(target, overrides, verb)
    check_sinks(config.sinks)
    if config.model.kind == "pretrained":
        local_path(config.model)
    same = str(origin.checkpoint if is_checkpoint(target) else origin.folder)
    _run(verb, config, origin.folder, lambda: ready.find_run_to_resume(same, overrides, verb), None, (), begun)


def _run(
    verb: SupervisedVerb,
    config: SupervisedConfig,
    folder: Path,
    find_origin: Callable[[], tuple[SupervisedConfig, Origin | None]],
    source: Path | None,
    command: Sequence[str],
    begun: float,
) -> None:
    """Train, or finish a run; `find_origin` is called with the folder locked, since another process may have worked."""
    with ready.at_work(folder, config, begun) as signals:
        config, origin = find_origin()
        finished = result = _read_final_result(config, origin)
        if result is None:
            if source is not None and source.parent != folder:
                shutil.copyfile(source, folder / source.name)
            result = _train(verb, config, folder, origin, signals, command)
    with reader_may_leave():
        if finished is None:
            write_after_training(folder)
        if config.display == "json":
            print(json.dumps(finite({"run_dir": str(folder), "result": asdict(result)})))
        elif config.display != "quiet":
            if finished is not None:
                print(visible(f"{folder} is finished, nothing was changed"))
            show_losses(result, folder)


def _read_final_result(config: SupervisedConfig, origin: Origin | None) -> SupervisedResult | None:
    """Read the result of a run with nothing left to do; None where a step or the conclusion is missing."""
    result = SupervisedResult.read(origin.folder) if origin is not None and is_own_result(origin.folder) else None
    if origin is None or result is None or step_of(origin.checkpoint) != result.step:
        return None
    has_stalled = result.stalled is not None and result.stalled == config.patience
    exports_same = result.exported == (result.step if config.patience is None else result.best)
    return result if exports_same and (result.step >= config.steps or has_stalled) else None


def _train(
    verb: SupervisedVerb,
    config: SupervisedConfig,
    folder: Path,
    origin: Origin | None,
    signals: StopSignals,
    command: Sequence[str],
) -> SupervisedResult:
    rows = read_rows(config)
    if origin is not None:  # a new run was checked before it had a folder
        check_lessons([*rows.train, *rows.held_out], config.objective)
    model = Path(config.model.path).name if config.model.kind == "pretrained" else "tiny"
    watch = watcher(
        config.display,
        title=f"{verb.words} · {model} · {folder.name}",
        total=config.steps,
        past=read_metrics(folder, step_of(origin.checkpoint)) if origin else (),
        curves=LOSSES if config.objective.completions == 1 else PAIRS,
    )
    try:
        if origin is not None:
            watch.note(origin.describe())
            if config.optimizer.schedule != "constant" and read_config(origin.folder)["steps"] != config.steps:
                watch.note("the learning rate depends on steps, which changed: it goes on as if always so")
        if notice := code_notice(config.model):
            watch.note(notice)
        with watch.phase("loading torch and transformers", 0):
            import_libraries()
            from rlhf_cli.supervised.assemble import assemble
            from rlhf_cli.supervised.conclude import conclude
            from rlhf_cli.supervised.loop import train
        run = assemble(config, rows, folder, watch, signals, origin, command)
        train(run)
        return conclude(run)
    finally:
        watch.close()
