"""Repeat a stretch of a run in another folder, and compare both bit for bit."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rlhf_cli.errors import bad_run
from rlhf_cli.pipeline.run import Training
from rlhf_cli.pipeline.state import read_state
from rlhf_cli.plural import plural
from rlhf_cli.reporter import Reporter
from rlhf_cli.runs.checkpoint import step_of
from rlhf_cli.runs.folder import CHECKPOINTS, FEEDBACK, LOGS, QUEUE
from rlhf_cli.runs.json_files import content_of
from rlhf_cli.runs.logbook import Mark
from rlhf_cli.types import Metrics
from rlhf_cli.verify.divergence import TENSORS, Divergence, Stretch, find_divergence, read_tensors, rows_of

T = TypeVar("T", bound=Training)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The amounts that were compared, and the first difference."""

    first: int
    """Steps, both included."""
    last: int
    metrics: int
    """Lines of metrics.jsonl."""
    completions: int
    evaluations: int
    tensors: int
    divergence: Divergence | None

    def describe(self) -> str:
        """The steps, and how much of them was compared."""
        steps = f"steps {self.first}-{self.last}" if self.first < self.last else f"step {self.last}"
        lines, completions = plural(self.metrics, "metrics line"), plural(self.completions, "completion")
        logged = f"{lines}, {completions}" if self.completions else lines  # rlhf train alone logs completions
        return f"{steps}, {logged}, {plural(self.evaluations, 'evaluation')}, {plural(self.tensors, 'tensor')}"


def repeat(
    own: Path,
    older: Path | None,
    newer: Path,
    watch: Reporter,
    resume: Callable[[Path], T],
    train: Callable[[T, int], None],
) -> Verdict:
    """Repeat the steps between two checkpoints of the run in `own`, in a temporary folder, and compare.

    `older` None: from the settings alone. `resume` gives the run, at `older`, in another folder; `train` trains it to a
    step. The run is only read. Raises UserError as a resume does, and (exit 5) where a log is not what both checkpoints
    saw; Stopped.
    """
    first, last = step_of(older) + 1 if older else 1, step_of(newer)
    was = _stretch(own, older, newer)
    with tempfile.TemporaryDirectory(prefix="rlhf-verify-") as scratch:
        folder = Path(scratch)
        for file in LOGS.values() if older else ():
            if (log := own / file).is_file():
                shutil.copyfile(log, folder / log.name)
        if (readings := own / FEEDBACK / QUEUE).is_file():  # the repeated steps read the votes that they read
            (folder / FEEDBACK).mkdir()
            shutil.copyfile(readings, folder / FEEDBACK / QUEUE)
        run = resume(folder)
        with watch.phase(f"steps {first} to {last}", last - first + 1) as tick:
            run.work.reporter = _Steps(tick)
            train(run, last)
        now = _stretch(folder, older, folder / CHECKPOINTS / newer.name)
        return Verdict(
            first=first,
            last=last,
            metrics=len(was.metrics),
            completions=len(was.samples),
            evaluations=len(was.evaluations),
            tensors=sum(len(read_tensors(newer / file)) for file, _ in TENSORS),
            divergence=find_divergence(was, now),
        )


def _stretch(folder: Path, older: Path | None, newer: Path) -> Stretch:
    """The lines that the run in `folder` logged between two checkpoints, or (None) up to the newer one."""
    start, end = read_state(older).logs if older else {}, read_state(newer).logs

    def between(name: str) -> bytes:
        file = folder / LOGS[name]
        content, begin, stop = content_of(file), start.get(name, Mark()), end[name]
        for mark, checkpoint in ((stop, newer), (begin, older or newer)):  # one begun anew in between fits only `newer`
            if not mark.fits(content):
                raise bad_run(
                    f"{file.name} is not what {checkpoint.name} saw", folder, "bring the file back as the run wrote it"
                )
        return content[begin.size : stop.size]

    metrics, samples, evaluations = (rows_of(between(name)) for name in ("metrics", "samples", "evaluations"))
    return Stretch(metrics, samples, evaluations, newer)


class _Steps(Reporter):
    """A reporter that shows a tick for each step, and nothing else."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick

    def step(self, step: int, metrics: Metrics, timings: Metrics, sample: tuple[str, str]) -> None:
        """Show that a step of the phase is done."""
        self._tick()
