"""Run the trials of `rlhf train -m` in processes of their own, and answer which point is best."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rlhf_cli.config.compose import amend
from rlhf_cli.config.launch import Launch, RunTrials
from rlhf_cli.display.answer import show_answer
from rlhf_cli.display.printing import print_note
from rlhf_cli.display.sweep import show_trials
from rlhf_cli.errors import EXIT_SWEEP, Stopped, UserError, disk_errors
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.report import sweep_page
from rlhf_cli.report.writing import write_page
from rlhf_cli.runs.changes import fingerprint, resume_config
from rlhf_cli.runs.folder import LOCK, MULTIRUN, REPORT, SWEEP
from rlhf_cli.runs.listing import read_status
from rlhf_cli.runs.lock import hold
from rlhf_cli.runs.resume import read_config
from rlhf_cli.schema import RunConfig
from rlhf_cli.sweep.answer import answer
from rlhf_cli.sweep.elsewhere import starter
from rlhf_cli.sweep.launchers import Launcher, Ray, Slurm
from rlhf_cli.sweep.pool import Job, Pool, Standing, StartTrial
from rlhf_cli.sweep.record import SweepRecord, name_of
from rlhf_cli.sweep.slots import THREADS, available_gpus, share, slots


@dataclass(slots=True)
class Work:
    """The trials that ran in a sweep's folder, and how their answer is shown."""

    standings: list[Standing] = field(default_factory=list)
    display: str = "quiet"  # a sweep of another launcher of hydra's gets the page alone


@contextmanager
def open_sweep(sweep: SweepRecord) -> Iterator[RunTrials]:
    """Lock the sweep's folder and give the function that runs its trials; show the answer at the end.

    Raises UserError with EXIT_SWEEP if trials failed, and Stopped if some were stopped.
    """
    names = {trial.name: name_of(trial.told) for trial in sweep.trials}
    with work_on(sweep) as work:

        def run_trials(launches: Sequence[Launch[RunConfig]], launcher: Launcher) -> None:
            work.display = launches[0].config.display
            threads = keep_threads(sweep, max(launch.config.jobs or 1 for launch in launches))
            work.standings += _run(launches, names, launcher, sweep.folder, threads)

        yield run_trials


@contextmanager
def work_on(sweep: SweepRecord) -> Iterator[Work]:
    """Work in the sweep's folder as `open_sweep` does; takes the trials that ran."""
    work = Work()
    with disk_errors(), hold(sweep.folder, what="folder of a sweep", instead="sweep_dir"):
        is_new = not (sweep.folder / SWEEP).exists()
        sweep.write()
        try:
            yield work
        except UserError:
            if is_new and {path.name for path in sweep.folder.iterdir()} <= {SWEEP, MULTIRUN, LOCK}:
                shutil.rmtree(sweep.folder, ignore_errors=True)  # no trial could be started
            raise
        except Stopped as stop:
            stop.resumable = True
            print("The same command goes on with the trials that are not done.", file=sys.stderr)
            raise
        is_stopped = any(standing.state == "stopped" for standing in work.standings)
        if not is_stopped:
            _show_answer(SweepRecord.read(sweep.folder) or sweep, work.display)
    if failed := [standing.job.name for standing in work.standings if standing.state == "failed"]:
        what = f"{len(failed)} of {len(work.standings)} trials failed: {'; '.join(failed)}"
        raise UserError(what, fix="the same command tries them again, and no finished trial", exit_code=EXIT_SWEEP)
    if is_stopped:
        raise Stopped("some trials were stopped; the same command goes on with them", resumable=True)


def keep_threads(sweep: SweepRecord, most: int) -> int:
    """The CPU threads of each trial where `most` run at once: those that the sweep began with, or the user's own."""
    threads = share(most, _cores())
    if sweep.threads is None:
        replace(sweep, threads=threads).write()
    elif THREADS not in os.environ:  # another number of jobs is no reason for other bytes
        threads = sweep.threads
    return threads


def _show_answer(sweep: SweepRecord, display: str) -> None:
    """Show the answer of the sweep and write its page; if the disk refuses the page, the sweep has not failed."""
    result = answer(sweep)
    page: Path | None = None
    try:
        with disk_errors():
            write_page(sweep.folder / REPORT, sweep_page.html(sweep, result), overwrite=False)
        page = sweep.folder / REPORT
    except UserError as error:
        print_note(error.line())
    show_answer(result, display, page)


def _is_done(config: RunConfig, folder: Path) -> bool:
    """Whether the folder holds a finished run of this config; a run of other settings is refused by its own process."""
    status = read_status(folder)
    if status.state != "finished" or (status.steps or 0) < config.steps:
        return False
    try:
        resume_config(amend(read_config(folder), ()), config)
    except UserError:
        return False
    return True


def _run(
    launches: Sequence[Launch[RunConfig]], names: dict[str, str], launcher: Launcher, sweep: Path, threads: int
) -> list[Standing]:
    """Run the trials, those of one device, `jobs` and display together; without a GPU each has `threads`."""
    groups: dict[tuple[str, int | None, str], list[Job]] = {}
    for launch in launches:
        config, folder = launch.config, Path(str(launch.config.run_dir))
        job = job_of(launch, names.get(folder.name, folder.name))
        groups.setdefault((config.device, config.jobs, config.display), []).append(job)
    signals, standings = StopSignals(), list[Standing]()
    with signals.installed(), signals.polled():
        for (device, count, display), jobs in groups.items():
            slots = open_slots(launcher, sweep, device, count, len(jobs), threads)
            with slots as (free, start), show_trials(display) as show:
                standings += Pool(jobs, free, show, signals.check, start).run()
    return standings


def job_of(launch: Launch[RunConfig], name: str, number: int | None = None) -> Job:
    """The job of a trial; `number` is that of a trial of a search."""
    config, folder = launch.config, Path(str(launch.config.run_dir))
    is_done = _is_done(config, folder)
    return Job(name, folder, launch.arguments, config.steps, fingerprint(config), is_done, number)


@contextmanager
def open_slots(
    launcher: Launcher, sweep: Path, device: str, count: int | None, jobs: int, threads: int
) -> Iterator[tuple[list[dict[str, str]], StartTrial]]:
    """The slots of trials on a device, at most `count` at once of `jobs`, and what starts a trial in one."""
    free: list[dict[str, str]] = [{}] * (count or jobs)  # a cluster takes all, and divides itself
    if not isinstance(launcher, Ray | Slurm):
        free = slots(count, available_gpus() if device in ("auto", "cuda") else [], threads)
    with starter(launcher, sweep, len(free)) as start:
        yield free, start


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
