"""From a command line to validated RunConfigs: every job is checked before a folder is made or one starts."""

from __future__ import annotations

import copy
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rlhf_cli.config import session
from rlhf_cli.config.arguments import as_typed, parse, parsed, quoted, rewritten
from rlhf_cli.config.jobs import Plan, composed, job_name, planned, source_of, validated
from rlhf_cli.config.keys import did_you_mean, fields
from rlhf_cli.config.options import PRESET, groups
from rlhf_cli.config.problems import checked
from rlhf_cli.config.security import refuse_code, refuse_secrets
from rlhf_cli.errors import EXIT_DONE, EXIT_SWEEP, UserError
from rlhf_cli.schema import RunConfig
from rlhf_cli.sweep.record import Ending, SweepRecord, Trial


@dataclass(frozen=True)
class Launch:
    """One job, ready to run."""

    config: RunConfig
    """Its `run_dir` is set, absolute, and there."""
    source: Path | None
    """The user's YAML file that `config=` named."""
    overrides: tuple[str, ...]
    """The overrides of this job, as typed but for paths, which are absolute."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """Of `rlhf`, to run it in a process of its own: begun, or continued where it stands."""
        own = f"run_dir={quoted(str(self.config.run_dir))}", "resume=auto", "display=plain"
        return ("train", *self.overrides, "hydra.mode=RUN", "seeds=1", *own)


RunTrials = Callable[[Sequence[Launch]], None]
OpenSweep = Callable[[SweepRecord], AbstractContextManager[RunTrials]]
"""Given what is to be run, a context in which trials are run together; it raises at its end where some failed."""


class _Escape(BaseException):
    """Carries a task's exception past hydra, which would print a line of its own and run a sweep's other jobs first."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(error)


def _accept(config: RunConfig) -> None:
    """The check that has nothing against any config."""


def launch(
    argv: Sequence[str],
    task: Callable[[Launch], None],
    *,
    check: Callable[[RunConfig], None] = _accept,
    sweep: OpenSweep | None = None,
) -> None:
    """Runs `task` for the one job of the command line, or for each job of its sweep (`-m`), by hydra's own main.

    `--help`, `--hydra-help`, `--info` and `--cfg` print and run nothing. `check` sees the config of every job before
    anything is made. The trials of a sweep are run inside of what `sweep` opens: all of them by what that gives, or by
    `task` where it is None or another of hydra's launchers is chosen. A trial that ends there in a UserError is named
    on stderr and does not stop the others.

    Raises UserError, with nothing made and nothing run, if the command line or the config of any job is wrong or
    `check` says so; later on what `task` and `sweep` raise, and at the end of a sweep with failed trials one with
    EXIT_SWEEP.
    """
    refuse_secrets(argv)
    line = parse(argv)
    if shows := [option for option in ("--help", "--hydra-help") if option in line.options]:
        session.run(shows)
        return
    overrides = [rewritten(override, Path.cwd()) for override in line.overrides]
    refuse_code(overrides)
    if info := line.options.get("--info"):
        session.run([f"--info={info}", *overrides])
        return
    with session.loader() as loader:
        show = line.options.get("--cfg")
        if show and "--multirun" in line.options:
            raise UserError("--cfg shows the config of one run: leave -m out")
        plan = planned(loader, overrides, sweep="--multirun" in line.options, check=_accept if show else check)
    if show:
        flags = ["--resolve"] if "--resolve" in line.options else []
        session.run([f"--cfg={show}", *flags, *overrides])
        return

    folder, of_folder = plan.in_folder()
    of_trials = zip(plan.folders, plan.told(), plan.configs, strict=True)
    trials = tuple(Trial(name, told, config.steps) for name, told, config in of_trials)
    record = SweepRecord(folder, f"rlhf train {shlex.join(argv)}", trials, str(Path.cwd()))
    with sweep(record) if sweep and plan.is_sweep else nullcontext() as run_trials:
        work = _Work(plan, task, run_trials)
        try:
            session.run([*overrides, *of_folder], work)
        except _Escape as e:
            raise e.error from e.error.__cause__
    endings = [Ending.read(folder / name) for name in plan.folders]
    failed = [job_name(number, plan.jobs) for number, ending in enumerate(endings, 1) if ending and ending.is_failure]
    if failed:
        raise UserError(f"{len(failed)} of {len(plan.jobs)} jobs failed: {'; '.join(failed)}", exit_code=EXIT_SWEEP)


class _Work:
    """What hydra is given to run: called with one job after the other, or by our launcher with all of them."""

    def __init__(self, plan: Plan, task: Callable[[Launch], None], run_trials: RunTrials | None) -> None:
        self._plan, self._task, self._run_trials = plan, task, run_trials

    def __call__(self, cfg: DictConfig) -> None:
        """Run one job in this process, which a launcher of hydra's may have started for it."""
        now = HydraConfig.get()
        ending = Ending(EXIT_DONE, "")
        try:
            self._task(self._launch(cfg, now))
        except UserError as e:
            if not self._plan.is_sweep:
                raise _Escape(e) from e
            ending = Ending(e.exit_code, e.line())
            sys.stderr.write(f"error: {job_name(now.job.num + 1, self._plan.jobs)}: {e.line()}\n")
        except Exception as e:
            raise _Escape(e) from e
        if self._plan.is_sweep:
            folder = Path(now.runtime.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            ending.write(folder)

    def together(self, jobs: Sequence[DictConfig]) -> None:
        """Run all jobs, hydra's own node still in each."""
        launches = []
        for job in jobs:
            HydraConfig.instance().set_config(job)
            if self._run_trials is None:
                self(job)
            else:
                launches.append(self._launch(job, HydraConfig.get()))
        if self._run_trials is not None:
            try:
                self._run_trials(launches)
            except Exception as e:
                raise _Escape(e) from e

    def _launch(self, cfg: DictConfig, now: Any) -> Launch:
        job = tuple(now.overrides.task)
        config = validated(cfg, job, run_dir=now.runtime.output_dir)
        if self._plan.is_sweep:  # the same sweep again goes on with its trials, whoever launches them
            config = config.model_copy(update={"resume": "auto"})
        return Launch(config, source_of(job), tuple(map(as_typed, job)))


def compose_config(overrides: Sequence[str]) -> RunConfig:
    """The config that `rlhf train` would run with these overrides; `run_dir` stays as given, perhaps None.

    Raises UserError if it is wrong.
    """
    refuse_secrets(overrides)
    ready = [rewritten(override, Path.cwd()) for override in overrides]
    with session.loader() as loader:
        return planned(loader, ready, sweep=False, check=_accept).configs[0]


def amend(saved: Mapping[str, Any], overrides: Sequence[str]) -> RunConfig:
    """A run's saved config with overrides: single keys are set, the option of a group replaces the whole group.

    `saved` is plain data (`RunConfig.model_dump(mode="json")`) and stays so: nothing in it is interpolated.
    Raises UserError if an override cannot apply to a run that exists, or if the outcome is wrong.
    """
    refuse_secrets(overrides)
    data = copy.deepcopy(dict(saved))
    read = [parsed(rewritten(override, Path.cwd())) for override in overrides]
    for override in read:
        if override.key_or_group == PRESET:
            raise UserError(
                f"config={override.value()}: a resumed run keeps its own config; change single keys instead"
            )
        if override.is_sweep_override() or override.is_delete():
            raise UserError(f"{override.input_line}: a resumed run takes only key=value")
    of_groups = [override for override in read if override.key_or_group in groups()]
    chosen = {one.key_or_group: str(one.input_line) for one in of_groups if isinstance(one.value(), str)}
    if chosen:
        with session.loader() as loader:
            options = composed(loader, list(chosen.values()))
        data |= {group: OmegaConf.to_container(options[group], resolve=True) for group in chosen}
    for override in read:
        if override.key_or_group not in chosen:
            _set(data, override.key_or_group, override.value())
    return checked(data, lambda key: "")


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    here: Any = data
    *parents, last = key.split(".")
    for parent in parents:
        here = here.get(parent)
        if not isinstance(here, dict):
            raise UserError(f"unknown setting '{key}'{did_you_mean(key, fields())}")
    here[last] = value
