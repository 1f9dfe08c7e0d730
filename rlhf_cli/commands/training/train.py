"""`rlhf train`: start a run or a sweep (-m), or resume a run (resume=)."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path

from rlhf_cli.commands.parts import ready
from rlhf_cli.commands.parts.sweeping import open_sweep
from rlhf_cli.commands.results.report import write_after_training
from rlhf_cli.config.launch import Launch, launch
from rlhf_cli.display.console import reader_may_leave
from rlhf_cli.display.tables import show_result
from rlhf_cli.display.watchers import watcher
from rlhf_cli.errors import EXIT_DONE, visible
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.prompts.rows import read_rows
from rlhf_cli.rewards.columns import check_rows
from rlhf_cli.rewards.execution.scorer import Scorer
from rlhf_cli.runs.checkpoint import step_of
from rlhf_cli.runs.folder import REWARD_LOG
from rlhf_cli.runs.json_files import finite
from rlhf_cli.runs.reading import read_metrics
from rlhf_cli.runs.result import Result
from rlhf_cli.runs.resume import Origin, is_checkpoint
from rlhf_cli.runs.sinks import check_sinks
from rlhf_cli.schema import RunConfig
from rlhf_cli.verbs import TRAIN


def main(argv: list[str]) -> int:
    """Start or resume the run or the sweep; refuse mistakes before any folder is made."""
    begun = time.monotonic()
    if (target := ready.resume_target(argv)) is not None:
        _resume(target, [argument for argument in argv if not argument.startswith("resume=")], begun)
    else:
        check = partial(ready.check_new_run, checked=[])
        launch(argv, lambda job: _launched(job, begun), check=check, sweep=open_sweep)
    return EXIT_DONE


def _launched(job: Launch[RunConfig], begun: float) -> None:
    run_in_its_folder(job.config, begun, job.source, job.command)


def run_in_its_folder(config: RunConfig, begun: float, source: Path | None = None, command: Sequence[str] = ()) -> None:
    """Start the run of a checked config in its `run_dir`, or go on with it where `resume` is auto.

    `source` is the user's file that it was composed from, and `command` what began it.
    """
    assert config.run_dir is not None
    folder = Path(config.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    _run(config, folder, lambda: ready.find_run_in(folder, config, TRAIN), source, command, begun)


def _resume(target: str, overrides: list[str], begun: float) -> None:
    config, origin = ready.find_run_to_resume(target, overrides, TRAIN)
    check_sinks(config.sinks)
    ready.check_sources(config)
    same = str(origin.checkpoint if is_checkpoint(target) else origin.folder)
    _run(config, origin.folder, lambda: ready.find_run_to_resume(same, overrides, TRAIN), None, (), begun)


def _run(
    config: RunConfig,
    folder: Path,
    find_origin: Callable[[], tuple[RunConfig, Origin | None]],
    source: Path | None,
    command: Sequence[str],
    begun: float,
) -> None:
    """Train, or finish a run, in a folder that no other process uses meanwhile.

    `find_origin` is called with the folder locked: before that, another process may have been at work.
    """
    loud = config.display not in ("json", "quiet")
    with ready.at_work(folder, config, begun) as signals:
        config, origin = find_origin()
        finished = result = ready.read_final_result(config, origin)
        if result is None:
            if source is not None and source.parent != folder:
                shutil.copyfile(source, folder / source.name)
            result = _train(config, folder, origin, signals, command)
    with reader_may_leave():
        if finished is None:
            write_after_training(folder)
        if loud:
            if finished is not None:
                print(visible(f"{folder} is finished: all {config.steps} steps are done, nothing was changed"))
            show_result(result, folder)
        elif config.display == "json":
            print(json.dumps(finite({"run_dir": str(folder), "result": asdict(result)})))


def _train(
    config: RunConfig, folder: Path, origin: Origin | None, signals: StopSignals, command: Sequence[str]
) -> Result:
    rows = read_rows(config)
    if origin is not None:  # a new run was checked before it had a folder
        check_rows(config.reward.source, chain(rows.train, rows.held_out))
    model = Path(config.model.path).name if config.model.kind == "pretrained" else "tiny"
    title = f"{config.algorithm.kind} · {model} · {config.reward.source.kind} · {folder.name}"
    past = read_metrics(folder, step_of(origin.checkpoint)) if origin else ()
    watch = watcher(config.display, title=title, total=config.steps, past=past)
    try:
        for note in ready.notes_at_start(config, origin):
            watch.note(note)
        with Scorer(config.reward, rows.columns, folder / REWARD_LOG) as scorer:
            with watch.phase("loading torch and transformers", 0):
                import_libraries()
                from rlhf_cli.pipeline.assemble import assemble
                from rlhf_cli.pipeline.conclude import conclude
                from rlhf_cli.pipeline.loop import train
            run = assemble(config, rows, folder, scorer, watch, signals, origin, command)
            train(run)
            return conclude(run)
    finally:
        watch.close()
