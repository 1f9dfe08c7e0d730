"""The kind of a run, read from its config.json: which verb began it, and goes on with it."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rlhf_cli.errors import bad_run

SUPERVISED: Final[Mapping[str, str]] = {"sft": "sft", "dpo": "dpo", "bradley_terry": "reward train"}
"""The verbs of supervised training, by `objective.kind`."""


def is_run(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is one of this tool."""
    return any({"steps", *others} <= config.keys() for others in (("reward", "algorithm"), ("objective",)))


def verb_of(config: Mapping[str, Any]) -> str:
    """The words behind `rlhf` that begin and continue a run with these settings."""
    objective = config.get("objective")
    kind = objective.get("kind") if isinstance(objective, Mapping) else None
    return SUPERVISED.get(str(kind), "train")


def check_verb(config: Mapping[str, Any], verb: str, folder: Path, fix: str | None = None) -> None:
    """Raise UserError (exit 5) where another verb than `verb`, words behind rlhf, began the run in `folder`."""
    if (own := verb_of(config)) != verb:
        raise bad_run(
            f"a run of rlhf {own}, not of rlhf {verb}", folder, fix or f"rlhf {own} resume={shlex.quote(str(folder))}"
        )
