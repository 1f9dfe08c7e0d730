"""Rewards as configs/ has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from rlhf_cli.rewards.kinds import Part
from rlhf_cli.rewards.kinds.base import InProcess

YAML = Path(__file__).parents[3] / "configs" / "reward"


def made(kind: str, **changes: Any) -> Any:
    """The reward of configs/reward/KIND.yaml, with some of its values changed."""
    values = yaml.safe_load((YAML / f"{kind}.yaml").read_text(encoding="utf-8"))
    assert set(changes) <= set(values)
    return TypeAdapter(Part).validate_python(values | changes)


def scorer_of(reward: InProcess) -> Callable[..., list[float | None]]:
    """The reward's function, made as its process makes it: from what went through JSON."""
    module, _, name = reward.target.rpartition(":")
    score: Callable[..., list[float | None]] = getattr(import_module(module), name)(
        **json.loads(json.dumps(reward.options()))
    )
    return score


def refusal(kind: str, **changes: Any) -> str:
    """What is said of a value that is not allowed."""
    with pytest.raises(ValidationError) as caught:
        made(kind, **changes)
    (error,) = caught.value.errors()
    return str(error["msg"])
