"""What each algorithm asks of the pipeline, and the values its knobs may have."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from rlhf_cli.algorithms import Algorithm

CLIPPED = {"clip_range": 0.2, "aggregation": "sum", "epochs": 3, "minibatch_size": 4}
FIELDS: dict[str, dict[str, Any]] = {
    "reinforce": {"baseline": "none"},
    "rloo": {},
    "grpo": CLIPPED | {"scale_by_std": True, "clip_range_high": 0.2},
    "ppo": CLIPPED | {"vf_coef": 0.1, "value_clip_range": 0.2, "gamma": 1.0, "gae_lambda": 0.95, "whiten": True},
}


def made(kind: str, **changes: Any) -> Algorithm:
    algorithm: Algorithm = TypeAdapter(Algorithm).validate_python({"kind": kind} | FIELDS[kind] | changes)
    return algorithm


@pytest.mark.parametrize(
    ("kind", "demands"),
    [
        ("reinforce", (1, False, False, 1, None, "sum")),
        ("rloo", (2, False, False, 1, None, "sum")),
        ("grpo", (2, False, False, 3, 4, "sum")),
        ("ppo", (1, True, True, 3, 4, "sum")),
    ],
)
def test_the_demands_of_each_algorithm(kind: str, demands: tuple[Any, ...]) -> None:
    one = made(kind)
    assert one.min_completions == 1
    asked = one.min_group, one.needs_value, one.shared_trunk, one.epochs, one.minibatch_size, one.aggregation
    assert asked == demands


@pytest.mark.parametrize(("baseline", "fewest"), [("none", 1), ("running", 1), ("mean", 2)])
def test_a_mean_needs_another_completion(baseline: str, fewest: int) -> None:
    assert made("reinforce", baseline=baseline).min_completions == fewest


@pytest.mark.parametrize(
    ("kind", "name", "allowed", "refused"),
    [
        ("reinforce", "baseline", ["none", "mean", "running"], ["others"]),
        ("grpo", "clip_range", [0.999], [0.0, 1.0, -0.1]),
        ("grpo", "clip_range_high", [1.5, 1e9], [0.0, 1.1e9]),
        ("grpo", "aggregation", ["sum", "constant", "token_mean", "sequence_mean"], ["mean"]),
        ("grpo", "epochs", [1], [0]),
        ("grpo", "minibatch_size", [1, None], [0]),
        ("ppo", "clip_range", [0.999], [0.0, 1.0]),
        ("ppo", "vf_coef", [0.0, 3.0], [-0.1, float("inf")]),
        ("ppo", "value_clip_range", [None, 5.0, 1e9], [0.0, 1.1e9]),
        ("ppo", "gamma", [1.0, 0.5], [0.0, 1.1]),
        ("ppo", "gae_lambda", [0.0, 1.0], [-0.1, 1.1]),
        ("ppo", "epochs", [1], [0]),
        ("ppo", "minibatch_size", [1, None], [0]),
    ],
)
def test_the_range_of_each_knob(kind: str, name: str, allowed: list[Any], refused: list[Any]) -> None:
    for value in allowed:
        assert getattr(made(kind, **{name: value}), name) == value
    for value in refused:
        with pytest.raises(ValidationError):
            made(kind, **{name: value})
