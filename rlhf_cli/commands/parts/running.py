"""Start, resume or finish a run in its folder: the part that all verbs share that train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from rlhf_cli.commands.parts import ready
from rlhf_cli.config.launch import Launch
from rlhf_cli.display.printing import print_json
from rlhf_cli.errors import reader_may_leave, visible
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.runs.disk import DISK
from rlhf_cli.runs.folder import FILES
from rlhf_cli.runs.result import Result
from rlhf_cli.runs.resume import Origin, is_checkpoint
from rlhf_cli.runs.sinks import check_sinks
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.supervised.result import SupervisedResult
from rlhf_cli.verbs import Verb

C = TypeVar("C", bound=TrainingConfig)
R = TypeVar("R", bound=Result | SupervisedResult)


@dataclass(frozen=True)
class Trainer(Generic[C, R]):
    """The parts of a verb that trains in which it differs from the others."""

    verb: Verb[C]
    check_sources: Callable[[C], None]
    """Raises UserError where a file or folder that the run reads is missing."""
    read_result: Callable[[C, Origin | None], R | None]
    """Reads the result of a run with nothing left to do; None where a step or the conclusion is missing."""
    train: Callable[[C, Path, Origin | None, StopSignals, Sequence[str]], R]
    """Trains in a folder, from an origin or anew, until the end; the last argument is the command that began it."""
    show: Callable[..., None]
    """Prints the result of the run in a folder; with `following=False` without the commands that may follow."""


def start_job(trainer: Trainer[C, R], begun: float, job: Launch[C]) -> None:
    """Start the run of a job; `begun` is the time, of `time.monotonic`, from which the time limit counts."""
    start(trainer, job.config, begun, job.source, job.command)


def start(
    trainer: Trainer[C, R], config: C, begun: float, source: Path | None = None, command: Sequence[str] = ()
) -> None:
    """Start the run of a checked config in its `run_dir`, or go on with it where `resume` is auto.

    `source` is the user's file that it was composed from, and `command` what began it.
    """
    assert config.run_dir is not None
    folder = Path(config.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    find = partial(ready.find_run_in, folder, config, trainer.verb)
    _run(trainer, config, folder, find, source, command, begun)


def resume(trainer: Trainer[C, R], argv: Sequence[str], begun: float) -> bool:
    """Go on with the run that `resume=RUN` of a command line names; return False where it names none.

    Raises UserError for overrides that the run cannot take.
    """
    target = ready.resume_target(argv)
    if target is None:
        return False
    overrides = [argument for argument in argv if not argument.startswith("resume=")]
    config, origin = ready.find_run_to_resume(target, overrides, trainer.verb)
    check_sinks(config.sinks)
    trainer.check_sources(config)
    same = str(origin.checkpoint if is_checkpoint(target) else origin.folder)
    find = partial(ready.find_run_to_resume, same, overrides, trainer.verb)
    _run(trainer, config, origin.folder, find, None, (), begun)
    return True


def _run(
    trainer: Trainer[C, R],
    config: C,
    folder: Path,
    find_origin: Callable[[], tuple[C, Origin | None]],
    source: Path | None,
    command: Sequence[str],
    begun: float,
) -> None:
    """Train, or finish a run, in a folder that no other process uses meanwhile.

    `find_origin` is called with the folder locked: before that, another process may have been at work.
    """
    copy = None
    if source is not None and source.parent != folder:  # a file of the user's may be called config.json, as one of ours
        copy = folder / (f"yours-{source.name}" if source.name in FILES else source.name)
    own = [] if copy is None or copy.exists() else [copy.name]
    with ready.at_work(folder, config, begun, *own) as signals:
        config, origin = find_origin()
        finished = result = trainer.read_result(config, origin)
        if result is None:
            if source is not None and copy is not None:
                DISK.write(copy, source.read_bytes())  # not where a link of that name leads
            result = trainer.train(config, folder, origin, signals, command)
    with reader_may_leave():
        if finished is None:
            from rlhf_cli.commands.results.report import write_after_training  # pages are of no use before the end

            write_after_training(folder)
        if config.display == "json":
            print_json({"run_dir": str(folder), "result": result.content()})
        elif config.display != "quiet":
            if finished is not None:
                print(visible(f"{folder} is finished, nothing was changed"))
            trainer.show(result, folder)
