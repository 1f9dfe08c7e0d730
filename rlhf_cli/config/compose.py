"""Compose overrides with hydra, or over a run's saved config, and validate the result by the verb's schema."""

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlhf_cli.config.arguments import parse_override, rewrite
from rlhf_cli.config.files import locate, read_with_bases
from rlhf_cli.config.foreign import unknown_setting
from rlhf_cli.config.keys import make_paths_absolute
from rlhf_cli.config.options import PRESET, groups, is_file, is_number, takes_numbers
from rlhf_cli.config.problems import build_config
from rlhf_cli.config.security import (
    allow_interpolations,
    find_secret,
    refuse_secrets,
    refuse_system_files,
    secret_error,
)
from rlhf_cli.config.session import one_line_errors, open_hydra
from rlhf_cli.errors import UserError
from rlhf_cli.runs.changes import is_under
from rlhf_cli.schema import RunConfig
from rlhf_cli.settings import Settings
from rlhf_cli.verbs import TRAIN, C, Verb, composing, current


def compose(loader: ConfigLoader, overrides: Sequence[str]) -> DictConfig:
    """Compose the verb's first file and the overrides, including hydra's own node.

    Nothing is checked: lists to sweep stay lists. An unknown key is added, so that `validate` can name it together with
    all other problems.
    """
    allow_interpolations()
    if source := source_of(overrides):
        read_with_bases(source)  # hydra would follow a file that builds on itself for ever
    with one_line_errors():
        try:
            return _load(loader, overrides)
        except (HydraException, OmegaConfBaseException):
            return _load(loader, [f"++{text}" if _changes_value(parse_override(text)) else text for text in overrides])


_READ_WHILE_COMPOSING: Final = ("hydra.searchpath", "hydra.job.env_copy")
_COMPOSED: Final[dict[tuple[str, ...], DictConfig]] = {}
"""The verb's first file, choices of options, and the content of the user's files -> what hydra composes from them."""
_PROBE: Final = "0.0123456789"
"""A number that stands for all: where it arrives alone as the value, any other number does."""
_CONSTANT: Final = {"kind": "constant", "value": float(_PROBE)}


def _load(loader: ConfigLoader, overrides: Sequence[str]) -> DictConfig:
    """Compose as hydra does, but the same choices of options only once in a process: they take most of the time.

    The jobs of a sweep over values take a fifth of it.
    """
    parsed = [parse_override(override) for override in overrides]
    values = [override for override in parsed if _sets_value(override)]
    choices = [override for override in parsed if not _sets_value(override)]
    are_changes = all(override.type is OverrideType.CHANGE and not override.package for override in choices)
    if not are_changes or any(override.key_or_group in _READ_WHILE_COMPOSING for override in values):
        return _load_anew(loader, overrides)  # an option is added, a key is deleted, or hydra reads a value meanwhile
    source = source_of(overrides)
    content = repr(read_with_bases(source)) if source else ""
    settings = _compose_numbers(loader, choices, content)
    if settings is None:
        settings = _compose_once(loader, [str(choice.input_line) for choice in choices], content)
    for override in values:
        if not override.is_sweep_override():
            is_new = override.is_force_add()
            OmegaConf.update(settings, override.key_or_group, override.value(), merge=True, force_add=is_new)
    _describe(parsed, settings.hydra)
    return settings


def _compose_numbers(loader: ConfigLoader, choices: Sequence[Override], content: str) -> DictConfig | None:
    """Compose choices of which some are numbers (`beta=0.05`), all numbers of a group by one composition.

    A number is the group's option `constant` with another `value`. None where there is no number, where a group is
    chosen twice, or where the value is not the option's: a user's file may set it too.
    """
    groups_chosen = [choice.key_or_group for choice in choices]
    numbers = {
        choice.key_or_group: value
        for choice in choices
        if choice.key_or_group in groups()
        and takes_numbers(choice.key_or_group)
        and isinstance(value := choice.value(), str)
        and is_number(value)
    }
    if not numbers or any(groups_chosen.count(group) > 1 for group in numbers):
        return None
    lines = [
        f"{choice.key_or_group}='{_PROBE}'" if choice.key_or_group in numbers else str(choice.input_line)
        for choice in choices
    ]
    settings = _compose_once(loader, lines, content)
    if any(OmegaConf.to_container(settings[group]) != _CONSTANT for group in numbers):
        return None
    for group, number in numbers.items():
        settings[group].value = float(number)
        settings.hydra.runtime.choices[group] = number
    return settings


def _compose_once(loader: ConfigLoader, options: Sequence[str], content: str) -> DictConfig:
    """A copy of what hydra composes from the options; `content` is that of the user's files among them."""
    key = current().primary, *options, content
    if key not in _COMPOSED:
        _COMPOSED[key] = _load_anew(loader, options)
    settings = copy.deepcopy(_COMPOSED[key])
    OmegaConf.clear_cache(settings)  # the time of ${now:...} is that of this run, not of the first one
    return settings


def _describe(overrides: Sequence[Override], hydra: DictConfig) -> None:
    """Write into hydra's node what it says of the overrides and of the place."""
    ours = [override for override in overrides if not override.is_hydra_override()]
    hydra.overrides.task = [str(override.input_line) for override in ours]
    hydra.overrides.hydra = [str(override.input_line) for override in overrides if override.is_hydra_override()]
    naming = hydra.job.config.override_dirname
    named = sorted(str(override.input_line) for override in ours if override.key_or_group not in naming.exclude_keys)
    hydra.job.override_dirname = naming.item_sep.join(named).replace("=", naming.kv_sep)
    hydra.runtime.cwd = os.getcwd()


def _load_anew(loader: ConfigLoader, overrides: Sequence[str]) -> DictConfig:
    # as for a sweep: this leaves missing values and lists of values alone
    primary, lines = current().primary, list(overrides)
    return loader.load_configuration(primary, lines, RunMode.MULTIRUN, validate_sweep_overrides=False)


def _changes_value(override: Override) -> bool:
    """Whether the override changes a value of ours."""
    return override.type is OverrideType.CHANGE and not override.is_hydra_override() and _sets_value(override)


def _sets_value(override: Override) -> bool:
    """Whether the override sets a value, and chooses no option."""
    if override.type not in (OverrideType.CHANGE, OverrideType.FORCE_ADD) or override.package:
        return False
    is_choice = override.key_or_group in (PRESET, *groups()) or override.key_or_group.startswith("hydra/")
    return not is_choice or isinstance(override.value(), dict)


def source_of(overrides: Sequence[str]) -> Path | None:
    """Find the user's file that the overrides of a job choose; None for a preset."""
    choices = [
        o.value() for o in map(parse_override, overrides) if o.key_or_group == PRESET and not o.is_sweep_override()
    ]
    return Path(str(choices[-1])) if choices and is_file(str(choices[-1])) else None


def validate(verb: Verb[C], settings: DictConfig, overrides: Sequence[str]) -> C:
    """Validate the composed settings of a job by the verb's schema.

    Raises UserError with all problems; each has the file and line that sets the key, if a file does.
    """
    typed = {parse_override(override).key_or_group for override in overrides} - {PRESET}

    def where(key: str) -> str:
        source = source_of(overrides)
        return "" if is_under(key, typed) or not source else f"{locate(read_with_bases(source), key)}: "

    with one_line_errors(where):
        data = _resolve(settings)
    if secret := find_secret(data):  # an environment variable with a harmless name may hold a secret
        key, kind = secret
        raise secret_error(kind, f"{where(key)}{key}")
    # only paths that an interpolation made are not absolute yet
    data = make_paths_absolute(data, Path.cwd())
    refuse_system_files(data, where)
    return build_config(verb, data, where)


def _resolve(settings: DictConfig) -> Any:
    """Our settings as plain data, with interpolations resolved; they may not look into hydra's."""
    content: Any = settings._content  # a masked copy would copy all of it, in each job of a sweep
    hydra = content.pop("hydra")
    try:
        return OmegaConf.to_container(settings, resolve=True)
    finally:
        content["hydra"] = hydra


def amend(saved: Mapping[str, Any], overrides: Sequence[str]) -> RunConfig:
    """Apply overrides to the saved config of a run of `rlhf train`, as `amend_for` does."""
    return amend_for(TRAIN, saved, overrides)


def amend_for(verb: Verb[C], saved: Mapping[str, Any], overrides: Sequence[str]) -> C:
    """Apply overrides to a run's saved config: a key sets one value, an option replaces its whole group.

    `saved` is plain data (`config.model_dump(mode="json")`); nothing in it is interpolated. Raises UserError if an
    override cannot apply to a run that exists, or if the new config is wrong.
    """
    with composing(verb):
        refuse_secrets(overrides)
        fields = verb.schema.model_fields.items()
        newer = {
            name: field.default.model_dump(mode="json") for name, field in fields if isinstance(field.default, Settings)
        }
        data = newer | copy.deepcopy(dict(saved))  # a run that an earlier version saved lacks such a group
        parsed = [parse_override(rewrite(override, Path.cwd())) for override in overrides]
        for override in parsed:
            if override.key_or_group == PRESET:
                what = f"config={override.value()}: a resumed run keeps its own config; change single keys instead"
                raise UserError(what)
            if override.is_sweep_override() or override.is_delete():
                raise UserError(f"{override.input_line}: a resumed run takes only key=value")
        of_groups = [override for override in parsed if override.key_or_group in groups()]
        choices = {o.key_or_group: str(o.input_line) for o in of_groups if isinstance(o.value(), str)}
        if choices:
            with open_hydra() as hydra:
                options = compose(hydra.config_loader(), list(choices.values()))
            data |= {group: OmegaConf.to_container(options[group], resolve=True) for group in choices}
        for override in parsed:
            if override.key_or_group not in choices:
                _set(data, override.key_or_group, override.value())
        refuse_system_files(data, lambda key: "")
        return build_config(verb, data, lambda key: "")


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    here: Any = data
    *parents, last = key.split(".")
    for parent in parents:
        here = here.get(parent)
        if not isinstance(here, dict):
            raise UserError(unknown_setting(key))
    here[last] = value
