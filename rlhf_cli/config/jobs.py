"""Plan the jobs of a command line: one, or one for each combination of a sweep's values; each composed and checked."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from rlhf_cli.config.arguments import parse_override, rewrite
from rlhf_cli.config.compose import compose, validate
from rlhf_cli.config.files import find_setter
from rlhf_cli.config.naming import job_name, name_folders
from rlhf_cli.config.options import PRESET
from rlhf_cli.config.search import FLOOR_KEYS, SWEEPER, SearchPlan, check_search, is_search, plan_search
from rlhf_cli.config.security import refuse_secrets, refuse_unsaid_trust
from rlhf_cli.config.session import one_line_errors, open_hydra
from rlhf_cli.errors import UserError
from rlhf_cli.schema import RunConfig
from rlhf_cli.verbs import TRAIN, C, Verb, composing

Job = tuple[str, ...]
"""The overrides of one job, without hydra's own settings."""
Check = Callable[[C], None]
"""Raises UserError for a config that cannot run here."""


@dataclass(frozen=True)
class PlannedJob(Generic[C]):
    """One job, composed and checked."""

    overrides: Job
    config: C
    folder: str
    """The name of its folder in that of the sweep; empty for a single run."""


@dataclass(frozen=True)
class Plan(Generic[C]):
    """All jobs of a command line."""

    jobs: Sequence[PlannedJob[C]]
    is_sweep: bool
    default_dir: str
    """The folder of the run, or of sweeps, if the config names none."""
    overrides: Sequence[str]
    """The command line's, and those that follow from them: a sweep's seeds, and what its folders are not named by."""
    settings: DictConfig
    """The composed overrides of the command line, hydra's own settings included; a sweep's values stay lists."""
    search: SearchPlan | None = None
    """A search; its `jobs` stand for all of its points, and none of them runs."""
    plan_job: Callable[[Job], PlannedJob[C]] | None = None
    """Composes and checks one more job of a sweep, as a search needs it."""

    @property
    def launcher(self) -> str:
        """The option of `hydra/launcher` that starts the trials of a sweep."""
        return str(self.settings.hydra.runtime.choices["hydra/launcher"])

    def names(self) -> list[str]:
        """`job 2 of 4 (beta=0.1)`, for each job."""
        jobs = [job.overrides for job in self.jobs]
        return [job_name(number, jobs) for number in range(1, len(jobs) + 1)]


def compose_config(overrides: Sequence[str]) -> RunConfig:
    """Compose the config that `rlhf train` would run with these overrides; `run_dir` stays as it is set, perhaps None.

    Raises UserError if it is wrong.
    """
    return compose_for(TRAIN, overrides)


def compose_for(verb: Verb[C], overrides: Sequence[str]) -> C:
    """Compose the config that the verb would run with these overrides, as `compose_config` does for `rlhf train`."""
    refuse_secrets(overrides)
    with composing(verb), open_hydra() as hydra:
        rewritten = [rewrite(override, Path.cwd()) for override in overrides]
        return plan_jobs(verb, hydra.config_loader(), rewritten, sweep=False, check=None).jobs[0].config


def find_setters(overrides: Sequence[str], keys: Iterable[str]) -> dict[str, str]:
    """Find what sets each of the keys in the config that the current verb would run with these overrides."""
    with open_hydra() as hydra:
        rewritten = [rewrite(override, Path.cwd()) for override in overrides]
        choices = compose(hydra.config_loader(), rewritten).hydra.runtime.choices
    return {key: find_setter(key, rewritten, choices) for key in keys}


def plan_jobs(
    verb: Verb[C], loader: ConfigLoader, overrides: Sequence[str], *, sweep: bool, check: Check[C] | None
) -> Plan[C]:
    """Compose and check every job once; `sweep` asks for a sweep, as a file may too (`hydra.mode: MULTIRUN`).

    Raises UserError, also the one of `check`; in a sweep it names the job.
    """
    settings = compose(loader, overrides)
    with one_line_errors():
        searches = is_search(settings)
        sweep = sweep or settings.hydra.mode == RunMode.MULTIRUN
        params = (settings.hydra.sweeper.get("params") or {}) if sweep else {}
        default_dir = str((settings.hydra.sweep if sweep else settings.hydra.run).dir)
    every = [parse_override(argument) for argument in (*(f"{k}={v}" for k, v in params.items()), *overrides)]
    for override in every:
        _check_values(verb, override, sweep, searches)
        override.config_loader = loader  # for glob()
    own = [override for override in every if not override.is_hydra_override()]
    of_hydra = [str(override.input_line) for override in every if override.is_hydra_override()]

    def accept(composed: DictConfig, job: Job) -> C:
        config = validate(verb, composed, job)
        refuse_unsaid_trust(config, overrides)
        if searches and isinstance(config, RunConfig):
            check_search(config)
        if check:
            check(config)
        return config

    if sweep and verb.schema is not RunConfig:
        raise UserError(f"rlhf {verb.words} runs one training: a sweep is for rlhf train alone", fix="leave -m out")
    if searches and not sweep:
        raise UserError("a search needs -m", where=f"hydra/sweeper={SWEEPER}")
    if sweep:
        search, seeds = None, list[str]()
        if searches:
            with one_line_errors():
                search, points = plan_search(settings, own)
        else:
            seeds = [] if _is_one_seed(settings, own) else _seeds(loader, own, of_hydra)
            points = combine([*own, *map(parse_override, seeds)])
        naming = name_folders(points, *(FLOOR_KEYS if searches else ()))
        plan_job = partial(_plan_job, loader, [*of_hydra, naming], accept)
        jobs, typed = _plan_all(points, plan_job), [*overrides, *seeds, naming]
        return Plan(jobs, sweep, default_dir, typed, settings, search, partial(plan_job, 0))
    job = tuple(str(override.input_line) for override in own)
    config = accept(settings, job)
    if isinstance(config, RunConfig) and config.seeds > 1:
        raise UserError("several runs are a sweep and need -m", where="seeds")
    return Plan([PlannedJob(job, config, "")], sweep, default_dir, overrides, settings)


def _plan_job(
    loader: ConfigLoader, of_hydra: Sequence[str], accept: Callable[[DictConfig, Job], C], number: int, job: Job
) -> PlannedJob[C]:
    composed = compose(loader, [*of_hydra, *job])
    config = accept(composed, job)
    with one_line_errors():
        composed.hydra.job.num = number
        return PlannedJob(job, config, str(composed.hydra.sweep.subdir))


def _plan_all(jobs: Sequence[Job], plan_job: Callable[[int, Job], PlannedJob[C]]) -> list[PlannedJob[C]]:
    planned = []
    for number, job in enumerate(jobs, start=1):
        with _errors_name_job(number, jobs):
            planned.append(plan_job(number - 1, job))
    if any(job.config.run_dir for job in planned):
        raise UserError("run_dir names the folder of one run; a sweep's is sweep_dir")
    if len({job.folder for job in planned}) < len(planned):
        raise UserError("two jobs of the sweep would write to one folder: is a value listed twice?")
    return planned


def _is_one_seed(settings: DictConfig, own: Sequence[Override]) -> bool:
    """Whether every point has one seed; False also where only the points, composed one by one, can tell."""
    is_open = any(override.is_sweep_override() and override.key_or_group in (PRESET, "seeds") for override in own)
    with suppress(OmegaConfBaseException):
        return not is_open and settings.seeds == 1
    return False


def _seeds(loader: ConfigLoader, own: Sequence[Override], of_hydra: Sequence[str]) -> list[str]:
    """`seeds=3` as an override for hydra: `seed=0,1,2`, from the seed of all points on; none for one seed."""
    points = combine(own)
    configs: dict[Job, RunConfig] = {}  # the presets and the values of `seeds`: no other override sets how many seeds
    for number, point in enumerate(points, start=1):
        decides = tuple(o for o in point if parse_override(o).key_or_group in (PRESET, "seeds"))
        if decides not in configs:
            with _errors_name_job(number, points):
                configs[decides] = validate(TRAIN, compose(loader, [*of_hydra, *point]), point)
    counts = {config.seeds for config in configs.values()}
    if counts == {1}:
        return []
    if any(override.key_or_group == "seed" and override.is_sweep_override() for override in own):
        raise UserError("the seed is swept already", where="seeds", fix="leave seeds or the values of seed out")
    firsts = {config.seed for config in configs.values()}
    if len(counts) > 1 or len(firsts) > 1:
        raise UserError("all points of a sweep have the same seeds", where="seeds", fix="give one seed and one seeds")
    return [f"seed={','.join(str(min(firsts) + number) for number in range(min(counts)))}"]


def _check_values(verb: Verb[C], override: Override, sweep: bool, searches: bool) -> None:
    if not override.is_sweep_override():
        return
    if override.is_interval_sweep() and not searches:
        raise UserError(
            f"{override.input_line}: an interval cannot be swept; list the values, separated by commas",
            fix=f"or search in it: hydra/sweeper={SWEEPER}",
        )
    if not sweep:
        why = "are a sweep and need -m" if verb.schema is RunConfig else "make no training"
        raise UserError(f"{override.key_or_group}: several values {why}; text with a comma needs quotes")
    if override.is_hydra_override():
        raise UserError(f"{override.input_line}: hydra's own settings cannot be swept")


def combine(overrides: Sequence[Override]) -> list[Job]:
    """Every combination of the values of the overrides; the last value of a key counts, the last key varies fastest."""
    values: dict[str, list[str]] = {}
    for override in overrides:
        is_sweep = override.is_sweep_override()
        texts = override.sweep_string_iterator() if is_sweep else [override.get_value_element_as_str()]
        values[override.get_key_element()] = [f"{override.get_key_element()}={text}" for text in texts]
    return [*itertools.product(*values.values())]


@contextmanager
def _errors_name_job(number: int, jobs: Sequence[Job]) -> Iterator[None]:
    try:
        yield
    except UserError as e:
        what = f"{job_name(number, jobs)}: {e.what}"
        raise UserError(what, where=e.where, fix=e.fix, exit_code=e.exit_code) from e.__cause__
