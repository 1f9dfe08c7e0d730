"""Compare the settings of a resumed run with those that it began with; the schema marks those that may change."""

import difflib
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from typing import Any, Final, TypeVar

from rlhf_cli.errors import UserError, bad_run
from rlhf_cli.schema import BY_MACHINE, RunConfig, TrainingConfig
from rlhf_cli.settings import IS_FREE, Settings

C = TypeVar("C", bound=TrainingConfig)

ASKING: Final = ("timeout_s", "retries", "batch_size", "url", "path", "function")
"""Settings of a reward that say how and where it is asked."""

FINGERPRINT_VARIABLE: Final = "RLHF_SETTINGS"
"""The environment variable with the fingerprint of the settings that a sweep has checked for its trial."""


def resume_config(saved: C, requested: C) -> C:
    """Return the config to resume with: the requested one, with `auto` as it was resolved when the run began.

    Raises UserError (exit 5) with every changed key that is neither free nor in resume_allow.
    """
    resolved = {key: getattr(saved, key) for key in BY_MACHINE if getattr(requested, key, None) == "auto"}
    requested = requested.model_copy(update=resolved)
    _check_processes(requested)
    before, after = saved.model_dump(mode="json"), requested.model_dump(mode="json")
    _check_names(requested.resume_allow, {*_keys(before), *_keys(after)})
    sets_aside = {bool(config.evaluate.every) and config.data.sets_aside for config in (saved, requested)}
    bound = () if len(sets_aside) == 1 else ("evaluate.every",)
    changed = [
        f"{key}: {old} -> {new}"
        for key, old, new in differences(before, after)
        if (key in bound or not is_free(key, type(saved))) and not is_under(key, requested.resume_allow)
    ]
    if changed:
        fork = " or a fork (rlhf fork RUN)" if isinstance(saved, RunConfig) else ""  # no other verb has forks
        raise bad_run(
            f"the resumed run would not be the same: {'; '.join(changed)}",
            "resume",
            f"leave these as they were, start a new run{fork}, or name them in resume_allow=[...]",
        )
    return requested


def judging_groups(keys: Iterable[str]) -> set[str]:
    """The groups of those of the keys that decide the numbers of a policy's evaluation.

    Other data, and another model, reward or reference of the same settings, have another hash in run.json instead.
    """
    parts = [(key.partition(".")[0], key.rpartition(".")[2]) for key in keys]
    return {
        group
        for group, name in parts
        if group in ("objective", "max_new_tokens")
        or (group == "reward" and name not in ASKING)
        or (group, name) in (("reference", "kind"), ("data", "too_long"), ("data", "max_prompt_tokens"))
    }


def _check_processes(requested: TrainingConfig) -> None:
    """Raise UserError for more processes than there are shards."""
    if requested.shards != "auto" and requested.processes > requested.shards:
        raise bad_run(
            f"processes={requested.processes} is more than the run's shards={requested.shards}",
            "resume",
            f"take up to {requested.shards}, or deal anew: shards={requested.processes} resume_allow=[shards]",
        )


def is_free(key: str, schema: type[TrainingConfig] = RunConfig) -> bool:
    """Whether a resumed run may change this key without naming it in resume_allow."""
    return is_under(key, free_keys(schema))


@cache
def free_keys(schema: type[Settings] = RunConfig) -> tuple[str, ...]:
    """The keys that the schema marks as Free; the keys below them are free as well."""
    keys: list[str] = []
    for name, field in schema.model_fields.items():
        if IS_FREE in field.metadata:
            keys.append(name)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            keys += (f"{name}.{key}" for key in free_keys(field.annotation))
    return tuple(keys)


def fingerprint(config: TrainingConfig) -> str:
    """Hash all settings that a resumed run may not change freely, and the whole of `evaluate` (SHA-256)."""
    bound = {key: value for key, value in config.model_dump(mode="json").items() if not is_free(key, type(config))}
    return hashlib.sha256(json.dumps(bound, sort_keys=True).encode()).hexdigest()


def _check_names(names: Collection[str], keys: Collection[str]) -> None:
    """Raise UserError for a name that no key has, nor begins with."""
    for name in names:
        if not any(is_under(key, (name,)) for key in keys):
            near = difflib.get_close_matches(name, keys)
            raise UserError(
                f"unknown setting '{name}'" + (f"; did you mean {near[0]}?" if near else ""), where="resume_allow"
            )


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield every key whose value differs between two configs, with the old and the new value; None: no such key."""
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield prefix + key, before, after


def _keys(settings: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in settings.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")


def is_under(key: str, roots: Collection[str]) -> bool:
    """Whether the key is one of the roots, or below one."""
    return any(key == root or key.startswith(f"{root}.") for root in roots)
