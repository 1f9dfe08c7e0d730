"""Compose a config without running it: from overrides, or from a run's saved config and overrides."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlhf_cli.config.arguments import parse_override, rewrite
from rlhf_cli.config.composition import compose
from rlhf_cli.config.jobs import plan_jobs
from rlhf_cli.config.keys import did_you_mean, fields
from rlhf_cli.config.options import PRESET, groups
from rlhf_cli.config.problems import build_config
from rlhf_cli.config.security import refuse_secrets
from rlhf_cli.config.session import open_hydra
from rlhf_cli.errors import UserError
from rlhf_cli.schema import RunConfig


def compose_config(overrides: Sequence[str]) -> RunConfig:
    """Compose the config that `rlhf train` would run with these overrides; `run_dir` stays as it is set, perhaps None.

    Raises UserError if it is wrong.
    """
    refuse_secrets(overrides)
    rewritten = [rewrite(override, Path.cwd()) for override in overrides]
    with open_hydra() as hydra:
        return plan_jobs(hydra.config_loader(), rewritten, sweep=False, check=None).jobs[0].config


def amend(saved: Mapping[str, Any], overrides: Sequence[str]) -> RunConfig:
    """Apply overrides to a run's saved config: a single key is set, the option of a group replaces the whole group.

    `saved` is plain data (`RunConfig.model_dump(mode="json")`) and stays so: nothing in it is interpolated.
    Raises UserError if an override cannot apply to a run that exists, or if the resulting config is wrong.
    """
    refuse_secrets(overrides)
    data = copy.deepcopy(dict(saved))
    parsed = [parse_override(rewrite(override, Path.cwd())) for override in overrides]
    for override in parsed:
        if override.key_or_group == PRESET:
            raise UserError(
                f"config={override.value()}: a resumed run keeps its own config; change single keys instead"
            )
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
    return build_config(data, lambda key: "")


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    here: Any = data
    *parents, last = key.split(".")
    for parent in parents:
        here = here.get(parent)
        if not isinstance(here, dict):
            raise UserError(f"unknown setting '{key}'{did_you_mean(key, fields())}")
    here[last] = value
