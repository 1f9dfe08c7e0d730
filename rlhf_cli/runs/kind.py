"""The kind of a run, read from its config.json: which verb began it, and goes on with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

SUPERVISED: Final[Mapping[str, str]] = {"sft": "sft", "dpo": "dpo", "bradley_terry": "reward train"}
"""The verbs of supervised training, by `objective.kind`."""


def verb_of(config: Mapping[str, Any]) -> str:
    """The words behind `rlhf` that begin and continue a run with these settings."""
    objective = config.get("objective")
    kind = objective.get("kind") if isinstance(objective, Mapping) else None
    return SUPERVISED.get(str(kind), "train")
