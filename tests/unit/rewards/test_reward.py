"""The reward group: a source and its shaping, in one mapping."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rlhf_cli.rewards import Reward
from tests.unit.support import SHAPING

LETTERS = {"kind": "characters", "characters": "ab"}


def of(**changes: Any) -> Reward:
    return Reward.model_validate({**LETTERS, **SHAPING, **changes})


def test_the_group_is_one_mapping() -> None:
    given = {**LETTERS, **SHAPING, "clip": [-1.0, 0.5]}
    reward = Reward.model_validate(given)
    assert reward.source.kind == "characters"
    assert reward.clip == (-1.0, 0.5)
    assert reward.model_dump(mode="json") == given
    assert Reward.model_validate(reward.model_dump(mode="json")) == reward


@pytest.mark.parametrize(("clip", "highest"), [(None, 1.0), ((-1.0, 0.5), 0.5), ((-1.0, 7.0), 1.0)])
def test_clipping_lowers_what_can_be_reached(clip: tuple[float, float] | None, highest: float) -> None:
    assert of(clip=clip).highest == highest


@pytest.mark.parametrize(
    ("changes", "shapes"),
    [({}, False), ({"clip": (0.0, 1.0)}, True), ({"length_penalty": 0.1}, True), ({"truncated": "penalty"}, True),
     ({"truncated": "mask"}, False), ({"normalise": True}, False)],
)  # fmt: skip
def test_it_says_whether_it_shapes(changes: dict[str, Any], shapes: bool) -> None:
    assert of(**changes).has_shaping is shapes


@pytest.mark.parametrize("clip", [[1.0, 1.0], [2.0, 1.0]])
def test_the_lower_limit_lies_below_the_higher(clip: list[float]) -> None:
    with pytest.raises(ValidationError, match=r"clip must be \[low, high\] with low below high"):
        of(clip=clip)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"clip": (0.0, 0.5), "length_penalty": 0.1, "truncated": "penalty"}, None),
        ({"truncated": "mask"}, "nothing is learned from cut completions, which are evaluated"),
        ({"normalise": True}, "learned from normalised scores, evaluated as they are"),
    ],
)
def test_it_says_why_the_optimum_is_not_that_of_the_evaluated_scores(changes: dict[str, Any], why: str | None) -> None:
    assert of(**changes).why_no_optimum == why
