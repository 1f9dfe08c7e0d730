"""What sets a value: the command line, or the file and line that wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_cli.config.jobs import compose_config, find_setters
from rlhf_cli.config.keys import rule
from rlhf_cli.settings import flatten
from tests.support import place_in_train_yaml

from .conftest import write

BASE = """\
model: tiny
data: tiny
reward: {kind: weighted, parts: {tone: characters, short: {kind: length, target: 5}}, weights: {tone: 1, short: 2}}
beta: 0.5
temperature: {kind: linear, start: 1.3, end: 0.9}
optimizer: {lr: 3e-4, eps: 1e-7}
"""
OVER = """\
defaults: [base.yaml]
steps: 7
beta: 0.07
temperature: {kind: cosine, start: 1.2}
optimizer: {lr: 2e-4}
"""


def test_the_file_that_wins_is_named(cwd: Path) -> None:
    write(cwd / "base.yaml", BASE)
    write(cwd / "over.yaml", OVER)
    expected = {
        "steps": "over.yaml:2",
        "beta.value": "over.yaml:3",
        "temperature.start": "over.yaml:4",
        "temperature.end": "configs/temperature/cosine.yaml:4",  # linear's 0.9 went with its option
        "optimizer.lr": "over.yaml:5",
        "optimizer.eps": "base.yaml:6",
        "optimizer.schedule": "configs/optimizer/adamw.yaml:4",
        "reward.weights.tone": "base.yaml:3",
        "reward.parts.short.target": "base.yaml:3",
        "reward.parts.short.width": "configs/reward/length.yaml:5",
        "reward.parts.tone.characters": "configs/reward/characters.yaml:3",
        "reward.clip": "configs/shaping.yaml:3",
        "model.layers": "configs/model/tiny.yaml:4",
        "max_new_tokens": place_in_train_yaml("max_new_tokens"),
    }
    assert find_setters(["config=./over.yaml"], expected) == expected


@pytest.mark.parametrize(
    ("overrides", "key", "expected"),
    [
        (["beta=0.3"], "beta.value", "the command line: beta=0.3"),
        (["optimizer.lr=1e-3"], "optimizer.lr", "the command line: optimizer.lr=1e-3"),
        (
            ["reward=weighted", "+reward@reward.parts.short=length", "reward.weights.short=1"],
            "reward.parts.short.width",
            "configs/reward/length.yaml:5 (+reward@reward.parts.short=length)",
        ),
        (
            ["reward=weighted", "+reward@reward.parts.short=length", "reward.weights.short=1"],
            "reward.clip",
            "configs/shaping.yaml:3 (reward=weighted)",
        ),
        (
            ["reward=weighted", "+reward@reward.parts.short=length", "reward.weights.short=1"],
            "reward.weights.short",
            "the command line: reward.weights.short=1",
        ),
        (["optimizer.lr=1e-3"], "optimizer.eps", "configs/optimizer/adamw.yaml:7"),
        (["algorithm=ppo"], "algorithm.gamma", "configs/algorithm/ppo.yaml:7 (algorithm=ppo)"),
        (["model=smollm2"], "model.revision", "configs/model/pretrained.yaml:4 (model=smollm2)"),
        (["data.where={a: 1}"], "data.where", "the command line: data.where={a: 1}"),
        ([], "optimizer.lr", "configs/config/tiny.yaml:15"),
    ],
)
def test_the_command_line_is_named(overrides: list[str], key: str, expected: str) -> None:
    assert find_setters(["config=tiny", *overrides], [key]) == {key: expected}


def test_every_value_of_every_kind_has_a_setter() -> None:
    for overrides in (["config=tiny"], ["config=format"], ["config=tiny", "algorithm=ppo", "beta=adaptive"]):
        keys = [
            key for key, _ in flatten(compose_config(overrides).model_dump(mode="json")) if not key.endswith("kind")
        ]
        assert "the schema" not in find_setters(overrides, keys).values()


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("optimizer.lr", "number, above 0, below 1"),
        ("top_k", "whole number, at least 1 or null"),
        ("display", "one of auto, live, plain, json, quiet"),
        ("model.width", "whole number, at least 8, at most 1024, a multiple of 8"),
        ("profile", "true or false"),
        ("resume_allow", "list"),
    ],
)
def test_a_rule_says_type_and_range(key: str, expected: str) -> None:
    assert rule(key) == expected
