"""Run the trials of `rlhf train -m` in processes of their own, and answer which point is best."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from rlhf_cli.config.compose import amend
from rlhf_cli.config.launch import Launch, RunTrials
from rlhf_cli.display.answer import show_answer
from rlhf_cli.display.sweep import show_trials
from rlhf_cli.errors import EXIT_SWEEP, Stopped, UserError, disk_errors, visible
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.report import sweep_page
from rlhf_cli.runs.changes import fingerprint, resume_config
from rlhf_cli.runs.disk import replace_file
from rlhf_cli.runs.folder import REPORT
from rlhf_cli.runs.listing import read_status
from rlhf_cli.runs.lock import hold, is_locked
from rlhf_cli.runs.resume import read_config
from rlhf_cli.schema import RunConfig
from rlhf_cli.sweep.answer import answer
from rlhf_cli.sweep.elsewhere import starter
from rlhf_cli.sweep.launchers import Launcher, Ray, Slurm
from rlhf_cli.sweep.pool import Job, Pool, Standing
from rlhf_cli.sweep.record import SweepRecord, name_of
from rlhf_cli.sweep.slots import THREADS, available_gpus, share, slots


@contextmanager
def open_sweep(sweep: SweepRecord) -> Iterator[RunTrials]:
    """Lock the sweep's folder and give the function that runs its trials; show the answer at the end.

    Raises UserError with EXIT_SWEEP if trials failed, and Stopped if some were stopped.
    """
    names = {trial.name: name_of(trial.told) for trial in sweep.trials}
    standings: list[Standing] = []
    displays: list[str] = []

    def run_trials(launches: Sequence[Launch[RunConfig]], launcher: Launcher) -> None:
        displays.append(launches[0].config.display)
        threads = share(max(launch.config.jobs or 1 for launch in launches), _cores())
        if sweep.threads is None:
            replace(sweep, threads=threads).write()
        elif THREADS not in os.environ:  # another number of jobs is no reason for other bytes
            threads = sweep.threads
        standings.extend(_run(launches, names, threads, launcher, sweep.folder))

    if is_locked(sweep.folder):
        raise UserError(
            "another process is working on this sweep",
            where=str(sweep.folder),
            fix="wait for it, or give another sweep_dir",
        )
    with disk_errors(), hold(sweep.folder, what="folder of a sweep", instead="sweep_dir"):
        sweep.write()
        try:
            yield run_trials
        except Stopped as stop:
            stop.resumable = True
            Console(stderr=True).print("The same command goes on with the trials that are not done.", markup=False)
            raise
        if not any(standing.state == "stopped" for standing in standings):
            # a sweep of another launcher of hydra's gets the page alone
            _show_answer(sweep, displays[0] if displays else "quiet")
    failed = [standing for standing in standings if standing.state == "failed"]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(standings)} trials failed: {'; '.join(standing.job.name for standing in failed)}",
            fix="the same command tries them again, and no finished trial",
            exit_code=EXIT_SWEEP,
        )
    if any(standing.state == "stopped" for standing in standings):
        raise Stopped("some trials were stopped; the same command goes on with them", resumable=True)


def _show_answer(sweep: SweepRecord, display: str) -> None:
    """Show the answer of the sweep and write its page; if the disk refuses the page, the sweep has not failed."""
    result = answer(sweep)
    page: Path | None = None
    try:
        replace_file(sweep.folder / REPORT, sweep_page.html(sweep, result))
        page = sweep.folder / REPORT
    except OSError as error:
        note = f"note: the report could not be written: {error.strerror or error}"
        Console(stderr=True).print(visible(note), markup=False, soft_wrap=True)
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
    launches: Sequence[Launch[RunConfig]], names: dict[str, str], threads: int, launcher: Launcher, sweep: Path
) -> list[Standing]:
    """Run the trials, those of one device, `jobs` and display together; without a GPU each has `threads`."""
    groups: dict[tuple[str, int | None, str], list[Job]] = {}
    for launch in launches:
        config, folder = launch.config, Path(str(launch.config.run_dir))
        name, is_done = names.get(folder.name, folder.name), _is_done(config, folder)
        job = Job(name, folder, launch.arguments, config.steps, fingerprint(config), is_done)
        groups.setdefault((config.device, config.jobs, config.display), []).append(job)
    signals, standings = StopSignals(), list[Standing]()
    with signals.installed(), signals.polled():
        for (device, count, display), jobs in groups.items():
            free: list[dict[str, str]] = [{}] * (count or len(jobs))  # a cluster takes all, and divides itself
            if not isinstance(launcher, Ray | Slurm):
                free = slots(count, available_gpus() if device in ("auto", "cuda") else [], threads)
            with starter(launcher, sweep, len(free)) as start, show_trials(display) as show:
                standings += Pool(jobs, free, show, signals.check, start).run()
    return standings


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
