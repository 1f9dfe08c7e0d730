"""Compose overrides with hydra, and validate the outcome as a RunConfig."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rlhf_cli.config.arguments import parse_override
from rlhf_cli.config.files import locate, read_with_bases
from rlhf_cli.config.keys import with_absolute_paths
from rlhf_cli.config.options import PRESET, groups, is_file
from rlhf_cli.config.problems import build_config
from rlhf_cli.config.security import find_secret, secret_error
from rlhf_cli.config.session import PRIMARY, one_line_errors
from rlhf_cli.schema import RunConfig


def compose(loader: ConfigLoader, overrides: Sequence[str]) -> DictConfig:
    """Compose train.yaml and the overrides, hydra's own node included; unchecked: sweeps and missing values stay open.

    A key that does not exist is added, so that `validate` can name it together with all other problems.
    """
    if source := source_of(overrides):
        read_with_bases(source)  # hydra would follow a file that builds on itself for ever
    with one_line_errors():
        try:
            return _load(loader, overrides)
        except HydraException:
            return _load(loader, [f"++{override}" if _sets_value(override) else override for override in overrides])


def _load(loader: ConfigLoader, overrides: Sequence[str]) -> DictConfig:
    # as for a sweep: this leaves missing values and lists of values alone
    return loader.load_configuration(PRIMARY, list(overrides), RunMode.MULTIRUN, validate_sweep_overrides=False)


def _sets_value(argument: str) -> bool:
    override = parse_override(argument)
    if override.type is not OverrideType.CHANGE or override.package or override.is_hydra_override():
        return False
    return override.key_or_group not in (PRESET, *groups()) or isinstance(override.value(), dict)


def source_of(overrides: Sequence[str]) -> Path | None:
    """The user's file that the overrides of a job name; None for a preset."""
    named = [
        o.value() for o in map(parse_override, overrides) if o.key_or_group == PRESET and not o.is_sweep_override()
    ]
    return Path(str(named[-1])) if named and is_file(str(named[-1])) else None


def validate(settings: DictConfig, overrides: Sequence[str]) -> RunConfig:
    """Validate what the overrides of a job composed.

    Raises UserError with all problems, each with its file and line where a file sets the key.
    """
    typed = {parse_override(override).key_or_group for override in overrides} - {PRESET}

    def where(key: str) -> str:
        on_command_line = any(key == name or key.startswith(f"{name}.") for name in typed)
        source = source_of(overrides)
        return "" if on_command_line or not source else f"{locate(read_with_bases(source), key)}: "

    with one_line_errors(where):
        names: list[Any] = [name for name in settings if name != "hydra"]
        data: Any = OmegaConf.to_container(OmegaConf.masked_copy(settings, names), resolve=True)
    if secret := find_secret(data):  # an environment variable with a harmless name may hold a secret
        key, kind = secret
        raise secret_error(kind, f"{where(key)}{key}")
    # paths of files and of the command line are absolute already; those that an interpolation made are not
    return build_config(with_absolute_paths(data, Path.cwd()), where)
