"""Launch the runs of a command line: every job is checked before a folder is made or a run starts."""

import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic

from hydra.core.global_hydra import GlobalHydra

from rlhf_cli.config.arguments import COMPARE_AT, parse_arguments, quote, rewrite, unquote
from rlhf_cli.config.compose import source_of
from rlhf_cli.config.jobs import Check, Plan, plan_jobs
from rlhf_cli.config.naming import differences, earlier_sweep_name, reserve_folder, split_settings, sweep_name
from rlhf_cli.config.runner import raise_failures, record_sweep, run_alone, run_by_hydra
from rlhf_cli.config.search import SearchPlan
from rlhf_cli.config.security import refuse_code, refuse_secrets
from rlhf_cli.config.session import one_line_errors, open_hydra, show_config, show_page
from rlhf_cli.errors import UserError
from rlhf_cli.runs.folder import HYDRA
from rlhf_cli.schema import RunConfig
from rlhf_cli.sweep import growth
from rlhf_cli.sweep.launchers import Launcher, read_launcher
from rlhf_cli.sweep.record import SweepRecord, Trial
from rlhf_cli.sweep.search import Floor
from rlhf_cli.verbs import TRAIN, C, Verb, composing


@dataclass(frozen=True)
class Launch(Generic[C]):
    """One job, ready to run."""

    config: C
    """Its `run_dir` is set and absolute."""
    source: Path | None
    """The user's YAML file that `config=` named."""
    overrides: tuple[str, ...]
    """The overrides of this job, as typed but for paths, which are absolute."""

    @property
    def command(self) -> tuple[str, ...]:
        """The command that begins this job, as run.json keeps it."""
        own = [override for override in self.overrides if not override.startswith("run_dir=")]
        return ("rlhf", *own, f"run_dir={quote(str(self.config.run_dir))}")

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of `rlhf` that begin or continue this job in a process of its own."""
        own = f"run_dir={quote(str(self.config.run_dir))}", "resume=auto", "display=plain"
        return ("train", *self.overrides, "hydra.mode=RUN", "seeds=1", *own)


Task = Callable[[Launch[RunConfig]], None]
RunTrials = Callable[[Sequence[Launch[RunConfig]], Launcher], None]
TrialOf = Callable[[Mapping[str, str], Floor], Launch[RunConfig]]
RunSearch = Callable[[SweepRecord, SearchPlan, TrialOf, Launcher], None]
"""Runs a search; its TrialOf gives the checked trial of some values and a floor."""
OpenSweep = Callable[[SweepRecord], AbstractContextManager[RunTrials]]
"""Opens a sweep: gives what runs its trials together, and raises at the end if some failed."""


def launch(
    argv: Sequence[str], task: Task, *, check: Check[RunConfig], sweep: OpenSweep, search: RunSearch | None = None
) -> None:
    """Run `task` for the one job of `rlhf train`'s command line, or open its `sweep` (`-m`) and run all trials by that.

    With `hydra/sweeper=optuna` the `search` chooses the trials and runs them. `--help`, `--hydra-help`, `--info` and
    `--cfg` print and run nothing. `check` sees the config of every job before anything is made. Where another launcher
    of hydra's is named, it runs `task` for each trial; a UserError there is named on stderr and stops no other trial.

    Raises UserError, with nothing made and nothing run, if the command line or the config of any job is wrong or
    `check` says so; OSError if the folder cannot be made; then what `task` and `sweep` raise; and at the end of a sweep
    with failed trials a UserError with EXIT_SWEEP.
    """

    def run_sweep(hydra: GlobalHydra, plan: Plan[RunConfig], at: float | None) -> None:
        with one_line_errors():
            launcher = read_launcher(plan.launcher, plan.settings.hydra.launcher)
        folder = make_sweep_folder(plan)
        record = SweepRecord(folder, f"rlhf train {shlex.join(argv)}", (), str(Path.cwd()), at)
        plan, record = _go_on(plan, record, names_folders=launcher is not None)
        launches = _launches(plan, folder)
        if plan.search is not None and search is not None and launcher is not None:
            record_sweep(hydra, plan, folder)
            _search(plan, record, search, launcher)
            return
        with sweep(record) as run_trials:
            if launcher is not None:
                record_sweep(hydra, plan, folder)
                run_trials(launches, launcher)
            else:
                run_by_hydra(hydra, plan, folder, lambda number: task(launches[number]))
        raise_failures(plan, folder)

    launch_one(TRAIN, argv, task, check=check, run_sweep=run_sweep)


def launch_one(
    verb: Verb[C],
    argv: Sequence[str],
    task: Callable[[Launch[C]], None],
    *,
    check: Check[C],
    run_sweep: Callable[[GlobalHydra, Plan[C], float | None], None] | None = None,
) -> None:
    """Run `task` for the one job of the verb's command line; prints and raises as `launch` does.

    A verb that has sweeps runs one by `run_sweep`, whose last argument is the beta of `--compare-at`.
    """
    refuse_secrets(argv)
    with composing(verb):
        options, typed = parse_arguments(argv)
        is_help = "--help" in options or "--hydra-help" in options
        overrides = [] if is_help else [rewrite(override, Path.cwd()) for override in typed]
        refuse_code(overrides)
        part, is_sweep = options.get("--cfg"), "--multirun" in options
        at = growth.read_beta(options[COMPARE_AT]) if COMPARE_AT in options else None
        if part and is_sweep:
            raise UserError("--cfg shows the config of one run: leave -m out")
        if "--resolve" in options and not part:
            raise UserError("--resolve shows a config without its interpolations: add --cfg job")
        if show_page(options, overrides):
            return
        with open_hydra() as hydra:
            plan = plan_jobs(verb, hydra.config_loader(), overrides, sweep=is_sweep, check=None if part else check)
            if at is not None and not plan.is_sweep:
                raise UserError("--compare-at is the beta at which a sweep compares its points: it needs -m")
            if part:
                show_config(part, overrides, resolve="--resolve" in options)
            elif run_sweep is not None and plan.is_sweep:
                run_sweep(hydra, plan, at)
            else:
                _run_one(hydra, plan, task)


def _run_one(hydra: GlobalHydra, plan: Plan[C], task: Callable[[Launch[C]], None]) -> None:
    """Run the one job in the folder that its config names, or in a new one."""
    named, default = plan.jobs[0].config.run_dir, Path(plan.default_dir).absolute()
    missing = [parent for parent in (Path(named).absolute() if named else default).parents if not parent.exists()]
    folder = _made(Path(named)) if named else reserve_folder(default)
    (job,) = _launches(plan, folder)
    try:
        run_alone(hydra, plan, folder, lambda: task(job))
    except OSError as error:  # of hydra's record of the settings; our own files are named by then
        if [path.name for path in folder.glob("*")] == [HYDRA]:  # nothing where it is gone
            shutil.rmtree(folder)
        raise OSError(error.errno, error.strerror or str(error), error.filename or str(folder)) from error
    finally:
        if not folder.exists():  # a run that could not begin leaves no folder, and none around it
            for parent in missing:
                with suppress(OSError):
                    parent.rmdir()


def _search(plan: Plan[RunConfig], record: SweepRecord, search: RunSearch, launcher: Launcher) -> None:
    """Run a search in its folder, with the trials that it has there."""
    assert plan.search is not None
    known, searched = growth.read_known(record.folder), replace(plan.search, beta=record.compare_at)

    def trial_of(texts: Mapping[str, str], floor: Floor) -> Launch[RunConfig]:
        assert plan.plan_job is not None
        job = plan.plan_job(searched.overrides(texts, floor))
        return _launches(replace(plan, jobs=[job]), record.folder)[0]

    settings = searched.settings.model_dump(mode="json")
    search(replace(record, trials=known.trials if known else (), search=settings), searched, trial_of, launcher)


def _launches(plan: Plan[C], folder: Path) -> list[Launch[C]]:
    launches = []
    for job in plan.jobs:
        changes = {"run_dir": str(folder / job.folder)}
        if plan.is_sweep:  # the same sweep again goes on with its trials, whoever launches them
            changes["resume"] = "auto"
        config = job.config.model_copy(update=changes)
        launches.append(Launch(config, source_of(job.overrides), tuple(map(unquote, job.overrides))))
    return launches


def make_sweep_folder(plan: Plan[RunConfig]) -> Path:
    """Make the folder of a sweep that its configs name, or the default one; an earlier version's keeps its name."""
    named, parent = plan.jobs[0].config.sweep_dir, Path(plan.default_dir).absolute()
    overrides, configs = [job.overrides for job in plan.jobs], [job.config for job in plan.jobs]
    earlier = parent / earlier_sweep_name(overrides, configs)
    searched = f"{plan.search.text} {configs[0].seed}" if plan.search else ""
    is_earlier = earlier.is_dir() and not searched
    default = earlier if is_earlier else parent / sweep_name(plan.overrides, overrides, configs, searched)
    return _made(Path(named) if named else default)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _go_on(plan: Plan[RunConfig], sweep: SweepRecord, *, names_folders: bool) -> tuple[Plan[RunConfig], SweepRecord]:
    """The plan with the folders of trials that were begun before, and the record of these and of all other trials.

    Raises UserError (exit 5) where the folder holds a sweep of other fixed settings or a changed sweep.json, and where
    another of hydra's launchers, which `names_folders` is false for, would begin a trial again under another name.
    """
    configs, overrides = [job.config for job in plan.jobs], [job.overrides for job in plan.jobs]
    swept, fixed = split_settings(plan.overrides, overrides, configs)
    known = growth.read_known(sweep.folder)
    begun = growth.read_begun(known)
    names = growth.find_begun(begun, [job.folder for job in plan.jobs], configs, swept)
    if not names_folders:
        growth.refuse_other_names(plan.launcher, names, [job.folder for job in plan.jobs], sweep.folder)
    plan = replace(plan, jobs=[replace(job, folder=name) for job, name in zip(plan.jobs, names, strict=True)])
    planned = {job.folder for job in plan.jobs}
    kept = growth.keep_begun(known, begun, planned, fixed)
    told = differences(overrides, [trial.told for trial in kept])
    trials = (Trial(job.folder, own, job.config.steps) for job, own in zip(plan.jobs, told, strict=True))
    at = known.compare_at if sweep.compare_at is None and known else sweep.compare_at
    if at is None:
        at = growth.yardstick([config for _, config in begun] or configs)
    threads = known.threads if known else None
    return plan, replace(sweep, trials=(*trials, *kept), compare_at=at, threads=threads)
