"""Rewards as configs/ has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from rlhf_cli.rewards.kinds import SingleSource
from rlhf_cli.rewards.kinds.base import IsolatedSource

YAML = Path(__file__).parents[3] / "configs" / "reward"


def made(kind: str, **changes: Any) -> Any:
    """The reward of configs/reward/KIND.yaml, with some of its values changed."""
    values = yaml.safe_load((YAML / f"{kind}.yaml").read_text(encoding="utf-8"))
    assert set(changes) <= set(values)
    return TypeAdapter(SingleSource).validate_python(values | changes)


def score_function(reward: IsolatedSource) -> Callable[..., list[float | None]]:
    """The reward's function, made as its process makes it: from what went through JSON."""
    module, _, name = reward.factory.rpartition(":")
    settings = json.loads(reward.model_dump_json())
    score: Callable[..., list[float | None]] = getattr(import_module(module), name)(**settings)
    return score


def refusal(kind: str, **changes: Any) -> str:
    """Our message about a value that is not allowed."""
    return str(_refused(kind, changes)["msg"])


def limit(kind: str, **changes: Any) -> str:
    """The kind of limit that a value breaks, by pydantic's name of it."""
    error = _refused(kind, changes)
    assert set(changes) & set(error["loc"])
    return str(error["type"])


def _refused(kind: str, changes: Mapping[str, Any]) -> Any:
    with pytest.raises(ValidationError) as caught:
        made(kind, **changes)
    (error,) = caught.value.errors()
    return error
