"""Name the jobs of a sweep, in messages and in its answer, and the folders of runs."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rlhf_cli.config.arguments import parse_override, unquote
from rlhf_cli.config.keys import holds_path
from rlhf_cli.config.options import PRESET
from rlhf_cli.runs.changes import is_free


def common_overrides(jobs: Sequence[Sequence[str]]) -> set[str]:
    """The overrides that all jobs of a sweep have."""
    return set.intersection(*map(set, jobs))


def job_name(number: int, jobs: Sequence[Sequence[str]]) -> str:
    """`job 2 of 4 (beta=0.1)`: its number, and the overrides that not all jobs have."""
    common = common_overrides(jobs)
    own = ",".join(unquote(override) for override in jobs[number - 1] if override not in common)
    return f"job {number} of {len(jobs)}" + (f" ({own})" if own else "")


def differences(jobs: Sequence[Sequence[str]], taken: Sequence[dict[str, str]] = ()) -> list[dict[str, str]]:
    """For each job, the keys that not all jobs set alike, with its values.

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
    digest = hashlib.sha256("\n".join(bound).encode()).hexdigest()[:6]
    return f"{','.join(parts)[:80] or 'only'}-{digest}"


def reserve_folder(folder: Path) -> Path:
    """Make a new folder of that name, or with -2, -3, ... appended: two runs of the same second never share one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    candidates = itertools.chain([folder], (folder.with_name(f"{folder.name}-{n}") for n in itertools.count(2)))
    for candidate in candidates:
        with suppress(FileExistsError):
            candidate.mkdir()
            break
    return candidate


def _shorten(override: str) -> tuple[str, str]:
    """Key and value of an override without quotes: of a path its last part, of a preset's file its stem."""
    key, _, value = override.partition("=")
    if key == PRESET:
        return key, Path(value.strip("'")).stem
    return key, Path(value.strip("'")).name if holds_path(key) and value.strip("'") else value
