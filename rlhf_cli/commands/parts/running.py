"""Start, resume or finish a run in its folder: the part that all verbs share that train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from rlhf_cli.commands.parts import ready, resuming
from rlhf_cli.config.arguments import renew_command
from rlhf_cli.config.launch import Launch
from rlhf_cli.display.dashboard import CURVES, Curve
from rlhf_cli.display.printing import print_json
from rlhf_cli.display.watchers import watcher
from rlhf_cli.errors import reader_may_leave, visible
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.prompts.rows import Rows, read_rows
from rlhf_cli.ranks.gathering import gather, seat
from rlhf_cli.reporter import Reporter
from rlhf_cli.runs.binding import read_record
from rlhf_cli.runs.checkpoint import step_of
from rlhf_cli.runs.disk import DISK
from rlhf_cli.runs.folder import FILES
from rlhf_cli.runs.reading import read_metrics
from rlhf_cli.runs.result import Result
from rlhf_cli.runs.resume import Origin, is_checkpoint
from rlhf_cli.runs.sinks import check_sinks
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.supervised.result import SupervisedResult
from rlhf_cli.types import PromptRow
from rlhf_cli.verbs import Verb, composing

if TYPE_CHECKING:
    from rlhf_cli.ranks.team import Team

C = TypeVar("C", bound=TrainingConfig)
R = TypeVar("R", bound=Result | SupervisedResult)


@dataclass(frozen=True)
class Trainer(Generic[C, R]):
    """A verb that trains, by the functions in which such verbs differ."""

    verb: Verb[C]
    check_sources: Callable[[C], None]
    """Raises UserError where a file or folder that the run reads is missing."""
    read_result: Callable[[C, Origin | None], R | None]
    """Reads the result of a run with nothing left to do; None where a step or the conclusion is missing."""
    train: Callable[[C, Path, Origin | None, StopSignals, Sequence[str]], R]
    """Trains in a folder, from an origin or anew, until the end; the last argument is the command with its settings."""
    show: Callable[..., None]
    """Prints the result of the run in a folder; with `following=False` without the commands that may follow."""


@contextmanager
def watched(
    verb: Verb[C],
    config: C,
    folder: Path,
    origin: Origin | None,
    signals: StopSignals,
    *,
    title: str,
    check: Callable[[Iterable[PromptRow]], None],
    curves: Sequence[Curve] = CURVES,
) -> Iterator[tuple[C, Rows, Reporter, Callable[[], Team]]]:
    """Read the rows of a run, show it by its reporter, and start its other processes; both end with the block.

    Gives the config with the number of processes, the rows, the reporter, and a function that waits until all processes
    are there: call it once, with torch imported. `title` goes before the folder's name; `check` raises UserError for a
    row that the run cannot use.
    """
    config = seat(config)
    rows = read_rows(config)
    if origin is not None:  # a new run was checked before it had a folder
        check(chain(rows.train, rows.held_out))
    past = read_metrics(folder, step_of(origin.checkpoint)) if origin else ()
    watch = watcher(config.display, title=f"{title} · {folder.name}", total=config.steps, past=past, curves=curves)

    def wait() -> Team:
        with watch.phase("waiting for the other processes", 0) if config.processes > 1 else nullcontext():
            return gathered()

    try:
        watch.note_all(ready.notes_at_start(config, origin))
        with gather(verb.words, config.processes, folder, signals.check) as gathered:
            yield config, rows, watch, wait
    finally:
        watch.close()


def model_name(config: TrainingConfig) -> str:
    """The model in the title of a run."""
    return Path(config.model.path).name if config.model.kind == "pretrained" else "tiny"


def start_job(trainer: Trainer[C, R], begun: float, job: Launch[C]) -> None:
    """Start the run of a job; `begun` is the time, of `time.monotonic`, from which the time limit counts."""
    start(trainer, job.config, begun, job.source, job.command)


def start(
    trainer: Trainer[C, R], config: C, begun: float, source: Path | None = None, command: Sequence[str] = ()
) -> None:
    """Start the run of a checked config in its `run_dir`, or go on with it where `resume` is auto.

    `source` is the user's file that it was composed from, and `command` the command with its settings.
    """
    assert config.run_dir is not None
    folder = Path(config.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    find = partial(resuming.find_run_in, folder, config, trainer.verb)
    _run(trainer, config, folder, find, source, command, begun)


def resume(trainer: Trainer[C, R], argv: Sequence[str], begun: float) -> bool:
    """Go on with the run that `resume=RUN` of a command line names; return False where it names none.

    Raises UserError for overrides that the run cannot take.
    """
    target = resuming.resume_target(argv)
    if target is None:
        return False
    overrides = [argument for argument in argv if not argument.startswith("resume=")]
    config, origin = resuming.find_run_to_resume(target, overrides, trainer.verb)
    check_sinks(config.sinks)
    trainer.check_sources(config)
    with composing(trainer.verb):
        command = renew_command(read_record(origin.folder).get("command", ()), overrides)
    same = str(origin.checkpoint if is_checkpoint(target) else origin.folder)
    find = partial(resuming.find_run_to_resume, same, overrides, trainer.verb)
    _run(trainer, config, origin.folder, find, None, command, begun)
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
