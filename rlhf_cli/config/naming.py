"""Name the jobs of a sweep, in messages and in its answer, and the folders of runs and sweeps."""

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rlhf_cli.config.arguments import parse_override, quote, unquote
from rlhf_cli.config.keys import holds_path
from rlhf_cli.config.options import PRESET
from rlhf_cli.runs.changes import fingerprint, is_free, is_under
from rlhf_cli.schema import RunConfig
from rlhf_cli.sweep.growth import SEED, fixed_settings
from rlhf_cli.verbs import TRAIN


def common_overrides(jobs: Sequence[Sequence[str]]) -> set[str]:
    """The overrides that all jobs of a sweep have."""
    return set.intersection(*map(set, jobs))


def job_name(number: int, jobs: Sequence[Sequence[str]]) -> str:
    """`job 2 of 4 (beta=0.1)`: its number, and the overrides that not all jobs have."""
    common = common_overrides(jobs)
    own = ",".join(unquote(override) for override in jobs[number - 1] if override not in common)
    return f"job {number} of {len(jobs)}" + (f" ({own})" if own else "")


def differences(jobs: Sequence[Sequence[str]], taken: Sequence[dict[str, str]] = ()) -> list[dict[str, str]]:
    """The settings that tell each job from the others: the keys that not all jobs set alike, with its values.

    A path is cut short where that is enough to tell the jobs from each other, and from those that are `taken`.
    """
    common = common_overrides(jobs)
    own = [[unquote(override) for override in job if override not in common] for job in jobs]
    short = [dict(map(_shorten, job)) for job in own]
    every = [*short, *taken]
    if len({tuple(values.items()) for values in every}) == len(every):
        return short
    return [dict(override.split("=", 1) for override in job) for job in own]


def trial_name(overrides: Sequence[str], constant: Sequence[str]) -> str:
    """The name of a trial's folder: the overrides whose keys are not `constant`, and a hash of all overrides.

    The hash leaves out what may change on resume: the same command with more steps finds its trials again.
    """
    typed = [unquote(override.lstrip("+")) for override in overrides]
    own = ("=".join(_shorten(override)) for override in typed if parse_override(override).key_or_group not in constant)
    parts = [re.sub(r"[^\w.=+-]+", "_", part, flags=re.ASCII) for part in own]
    bound = [override for override in typed if not is_free(parse_override(override).key_or_group)]
    text = "\n".join(bound)
    return f"{','.join(parts)[:80] or 'only'}-{_digest(text)}"


def name_folders(jobs: Sequence[Sequence[str]], *more: str) -> str:
    """The override that keeps keys out of the names of folders: those that all jobs set alike, and `more`."""
    common = [parse_override(override).key_or_group for override in sorted(common_overrides(jobs))]
    return f"hydra.job.config.override_dirname.exclude_keys=[{','.join(map(quote, (*common, *more)))}]"


def reserve_folder(folder: Path) -> Path:
    """Make a new folder of that name, or with -2, -3, ... appended: two runs of the same second never share one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    candidates = itertools.chain([folder], (folder.with_name(f"{folder.name}-{n}") for n in itertools.count(2)))
    for candidate in candidates:
        with suppress(FileExistsError):
            candidate.mkdir()
            break
    return candidate


def sweep_name(
    typed: Sequence[str], jobs: Sequence[Sequence[str]], configs: Sequence[RunConfig], searched: str = ""
) -> str:
    """The name of a sweep's folder: that of its preset, and a hash of the settings that are fixed.

    The hash leaves out what may change on resume. `typed` are the overrides of the command line, `jobs` those of each
    job, and `configs` what they compose; `searched` describes a search.
    """
    name = _sweep_name(json.dumps(split_settings(typed, jobs, configs)) + searched, jobs)
    return f"{name}-search" if searched else name


def earlier_sweep_name(jobs: Sequence[Sequence[str]], configs: Sequence[RunConfig]) -> str:
    """The name of the sweep's folder as earlier versions made it: its hash was that of the jobs' configs."""
    return _sweep_name("".join(map(fingerprint, configs)), jobs)


def _sweep_name(hashed: str, jobs: Sequence[Sequence[str]]) -> str:
    presets = [override.value() for override in map(parse_override, jobs[0]) if override.key_or_group == PRESET]
    return f"{Path(str(presets[-1])).stem if presets else TRAIN.primary}-{_digest(hashed)}"


def split_settings(
    typed: Sequence[str], jobs: Sequence[Sequence[str]], configs: Sequence[RunConfig]
) -> tuple[list[str], dict[str, str]]:
    """The keys that a sweep sweeps, but for the seed; and the settings that are fixed.

    Where presets are swept, only settings of the command line are fixed. Arguments as for `sweep_name`.
    """
    listed = {override.key_or_group for override in map(parse_override, typed) if override.is_sweep_override()}
    common = common_overrides(jobs)
    own = {parse_override(override).key_or_group for job in jobs for override in job if override not in common}
    swept = sorted((listed | own) - {SEED})
    fixed = fixed_settings(configs, swept)
    if PRESET not in swept:
        return swept, fixed
    of_first = [parse_override(override).key_or_group for override in jobs[0]]
    return swept, {key: value for key, value in fixed.items() if is_under(key, of_first)}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _shorten(override: str) -> tuple[str, str]:
    """Key and value of an override without quotes: of a path its last part, of a preset's file its stem."""
    key, _, value = override.partition("=")
    if key == PRESET:
        return key, Path(value.strip("'")).stem
    return key, Path(value.strip("'")).name if holds_path(key) and value.strip("'") else value
