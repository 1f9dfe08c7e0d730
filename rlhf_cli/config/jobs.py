"""The jobs of a command line: one, or one a combination of a sweep's values; composed, checked, given their folder."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override, OverrideType
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rlhf_cli.config.arguments import as_typed, in_short, parsed, quoted
from rlhf_cli.config.files import UserFile, family, place
from rlhf_cli.config.keys import with_absolute_paths
from rlhf_cli.config.options import PRESET, groups, is_file
from rlhf_cli.config.problems import checked
from rlhf_cli.config.security import key_of_secret, refuse_unsaid_trust, secret_error
from rlhf_cli.config.session import PRIMARY, one_line_errors
from rlhf_cli.errors import EXIT_DISK, UserError
from rlhf_cli.runs.changes import fingerprint
from rlhf_cli.schema import RunConfig


def composed(loader: ConfigLoader, overrides: Sequence[str]) -> DictConfig:
    """What hydra makes of train.yaml and the overrides, its own node included; unchecked, sweeps and gaps left open.

    A key that does not exist is added, so that the schema can name it together with all that is wrong besides.
    """
    _files(overrides)  # read before hydra does, which would follow a file that builds on itself for ever
    with one_line_errors():
        loose = [f"++{override}" if _sets_value(override) else override for override in overrides]
        return loader.load_configuration(PRIMARY, loose, RunMode.MULTIRUN, validate_sweep_overrides=False)


def _sets_value(override: str) -> bool:
    read = parsed(override)
    if read.type is not OverrideType.CHANGE or read.package or read.is_hydra_override():
        return False
    return read.key_or_group not in (PRESET, *groups()) or isinstance(read.value(), dict)


def source_of(overrides: Sequence[str]) -> Path | None:
    """The user's file that the overrides of one job name."""
    named = [o.value() for o in map(parsed, overrides) if o.key_or_group == PRESET and not o.is_sweep_override()]
    return Path(str(named[-1])) if named and is_file(str(named[-1])) else None


def _files(overrides: Sequence[str]) -> list[UserFile]:
    source = source_of(overrides)
    return family(source) if source else []


def validated(cfg: DictConfig, overrides: Sequence[str], run_dir: str | None = None) -> RunConfig:
    """The RunConfig of a composed config; a given `run_dir` replaces its own.

    Raises UserError with all that is wrong, each with its file and line where a file says it.
    """
    files = _files(overrides)
    typed = {parsed(override).key_or_group for override in overrides} - {PRESET}

    def where(key: str) -> str:
        on_command_line = any(key == name or key.startswith(f"{name}.") for name in typed)
        return "" if on_command_line or not files else f"{place(files, key)}: "

    with one_line_errors(where):
        names: list[Any] = [name for name in cfg if name != "hydra"]
        settings = OmegaConf.masked_copy(cfg, names)
        data: Any = OmegaConf.to_container(settings, resolve=True)
    key, kind = key_of_secret(data)  # an environment variable of a harmless name may hold one
    if kind:
        raise secret_error(kind, f"{where(key)}{key}")
    # files and the command line have made their paths absolute; those an interpolation made are left
    data = with_absolute_paths(data, Path.cwd())
    return checked(data | ({"run_dir": run_dir} if run_dir else {}), where)


@dataclass(frozen=True)
class Plan:
    """All that will run: one job, or those of a sweep."""

    jobs: Sequence[Sequence[str]]
    """The overrides of each."""
    configs: Sequence[RunConfig]
    folders: Sequence[str]
    """Of a sweep: the names of theirs."""
    is_sweep: bool
    added: Sequence[str]
    """Overrides that follow from the others: of a sweep its seeds, and what its folders are not named by."""
    default_dir: str
    """Where the run writes, or sweeps do, if the config does not say."""

    def in_folder(self) -> tuple[Path, list[str]]:
        """Makes the run's or the sweep's folder and returns it, and the overrides that send hydra there.

        Raises UserError with EXIT_DISK if it cannot be made.
        """
        first = self.configs[0]
        given = first.sweep_dir if self.is_sweep else first.run_dir
        default = Path(self.default_dir).absolute()
        try:
            if given:
                folder = _made(Path(given))
            else:
                folder = _made(default / self._own_name()) if self.is_sweep else _reserved(default)
        except OSError as e:
            raise UserError(f"{e.filename}: cannot be made: {e.strerror}", exit_code=EXIT_DISK) from e
        mode, key = ("MULTIRUN", "hydra.sweep.dir") if self.is_sweep else ("RUN", "hydra.run.dir")
        return folder, [*self.added, f"hydra.mode={mode}", f"{key}={quoted(str(folder))}"]

    def told(self) -> list[dict[str, str]]:
        """What tells each job from the others: the keys it sets, with their values; of a path its end, if that does."""
        common = _common(self.jobs)
        own = [[as_typed(override) for override in job if override not in common] for job in self.jobs]
        short = [dict(map(in_short, job)) for job in own]
        if len({tuple(one.items()) for one in short}) == len(short):
            return short
        return [dict(override.split("=", 1) for override in job) for job in own]

    def _own_name(self) -> str:
        """The preset's name and a hash of what is to be run, but for what a resumed run may change."""
        digest = hashlib.sha256("".join(map(fingerprint, self.configs)).encode()).hexdigest()[:6]
        named = [o.value() for o in map(parsed, self.jobs[0]) if o.key_or_group == PRESET]
        return f"{Path(str(named[-1])).stem if named else 'train'}-{digest}"


def planned(loader: ConfigLoader, overrides: Sequence[str], *, sweep: bool, check: Callable[[RunConfig], None]) -> Plan:
    """Composes and checks every job; `sweep` asks for a sweep, as a file may too (`hydra.mode: MULTIRUN`).

    Raises UserError, also what `check` raises; in a sweep it names the job.
    """
    whole = composed(loader, overrides)
    sweep = sweep or whole.hydra.mode == RunMode.MULTIRUN
    params = (whole.hydra.sweeper.get("params") or {}) if sweep else {}
    read = [parsed(argument) for argument in (*(f"{name}={value}" for name, value in params.items()), *overrides)]
    for override in read:
        _check_sweep(override, sweep)
        override.config_loader = loader  # for glob()
    with one_line_errors():
        default_dir = str((whole.hydra.sweep if sweep else whole.hydra.run).dir)

    def plan(added: list[str]) -> Plan:
        every = [*read, *map(parsed, added)]
        own = [override for override in every if not override.is_hydra_override()]
        of_hydra = [str(override.input_line) for override in every if override.is_hydra_override()]
        jobs = BasicSweeper.split_arguments(own, None)[0] if sweep else [[str(one.input_line) for one in own]]
        if sweep:
            constant = ",".join(quoted(parsed(override).key_or_group) for override in sorted(_common(jobs)))
            added = [*added, f"hydra.job.config.override_dirname.exclude_keys=[{constant}]"]
        configs: list[RunConfig] = []
        folders: list[str] = []
        for number, job in enumerate(jobs, start=1):
            try:
                cfg = composed(loader, [*of_hydra, *added[-1:], *job]) if sweep else whole
                configs.append(validated(cfg, job))
                refuse_unsaid_trust(configs[-1], overrides)
                check(configs[-1])
                with one_line_errors():
                    cfg.hydra.job.num = number - 1
                    folders.append(str(cfg.hydra.sweep.subdir))
            except UserError as e:
                if sweep:
                    named = f"{job_name(number, jobs)}: {e.what}"
                    e = UserError(named, where=e.where, fix=e.fix, exit_code=e.exit_code)
                raise e from e.__cause__
        return Plan(jobs, configs, folders, sweep, added, default_dir)

    found = plan([])
    seeds = _seeds(found.configs, read, sweep)
    if seeds:
        found = plan([seeds])
    if sweep and any(config.run_dir for config in found.configs):
        raise UserError("run_dir names the folder of one run; a sweep's is sweep_dir")
    if len({*found.folders}) < len(found.jobs):
        raise UserError("two jobs of the sweep would write to one folder: is a value listed twice?")
    return found


def _seeds(configs: Sequence[RunConfig], read: Sequence[Override], sweep: bool) -> str:
    """`seeds=3` as hydra takes it: `seed=0,1,2`, from the seed of all points on; nothing for one."""
    counts = {config.seeds for config in configs}
    if counts == {1}:
        return ""
    if not sweep:
        raise UserError("several runs are a sweep and need -m", where="seeds")
    if any(override.key_or_group == "seed" and override.is_sweep_override() for override in read):
        raise UserError("the seed is swept already", where="seeds", fix="leave seeds or the values of seed out")
    firsts = {config.seed for config in configs}
    if len(counts) > 1 or len(firsts) > 1:
        raise UserError("all points of a sweep have the same seeds", where="seeds", fix="give one seed and one seeds")
    return f"seed={','.join(str(min(firsts) + number) for number in range(min(counts)))}"


def job_name(number: int, jobs: Sequence[Sequence[str]]) -> str:
    """`job 2 of 4 (beta=0.1)`: which one it is, and what tells it from the others."""
    job, common = jobs[number - 1], _common(jobs)
    told = ",".join(as_typed(override) for override in job if override not in common)
    return f"job {number} of {len(jobs)}" + (f" ({told})" if told else "")


def _common(jobs: Sequence[Sequence[str]]) -> set[str]:
    """The overrides that all jobs of a sweep have."""
    return set.intersection(*map(set, jobs))


def _check_sweep(override: Override, sweep: bool) -> None:
    if not override.is_sweep_override():
        return
    if override.is_interval_sweep():
        raise UserError(f"{override.input_line}: an interval cannot be swept; list the values, separated by commas")
    if not sweep:
        raise UserError(
            f"{override.key_or_group}: several values are a sweep and need -m; text with a comma needs quotes"
        )
    if override.is_hydra_override():
        raise UserError(f"{override.input_line}: hydra's own settings cannot be swept")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _reserved(folder: Path) -> Path:
    """A new folder of that name, or of that name with -2, -3, ...: two runs of the same second never share one."""
    _made(folder.parent)
    candidates = itertools.chain([folder], (folder.with_name(f"{folder.name}-{n}") for n in itertools.count(2)))
    for candidate in candidates:
        with suppress(FileExistsError):
            candidate.mkdir()
            break
    return candidate
