"""The reward group: a source and its shaping, in one mapping."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rlhf_cli.rewards import Reward
from rlhf_cli.rewards.kinds.weighted import Weighted
from tests.unit.rewards.support import made
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


@pytest.mark.parametrize(("clip", "highest"), [(None, 1.0), ((-1.0, 0.5), 0.5), ((-1.0, 7.0), 1.0), ((1.5, 2.0), 1.5)])
def test_clipping_lowers_or_raises_what_can_be_reached(clip: tuple[float, float] | None, highest: float) -> None:
    assert of(clip=clip).highest == highest


@pytest.mark.parametrize(("on_error", "highest"), [("stop", 1.0), ("mask", 1.0), ("value", 3.0)])
def test_the_score_of_a_failure_can_be_reached_too(on_error: str, highest: float) -> None:
    regex = made("regex", pattern="a", on_error=on_error, error_value=3.0).model_dump()
    assert Reward.model_validate({**regex, **SHAPING}).highest == highest
    parts = {"own": regex, "letters": LETTERS}
    weighted = {"kind": "weighted", "parts": parts, "weights": {"own": 2.0, "letters": 1.0}, **SHAPING}
    assert Reward.model_validate(weighted).highest == 2 * highest + 1.0


def test_a_failure_below_the_highest_score_lowers_nothing() -> None:
    regex = made("regex", pattern="a", on_error="value", error_value=-3.0).model_dump()
    assert Reward.model_validate({**regex, **SHAPING}).highest == 1.0


@pytest.mark.parametrize(
    ("changes", "shapes"),
    [({}, False), ({"clip": (0.0, 1.0)}, True), ({"length_penalty": 0.1}, True), ({"truncated": "penalty"}, True),
     ({"truncated": "mask"}, False), ({"normalise": True}, False)],
)  # fmt: skip
def test_it_says_whether_it_shapes(changes: dict[str, Any], shapes: bool) -> None:
    assert of(**changes).has_shaping is shapes


@pytest.mark.parametrize(
    ("changes", "is_none"), [({}, True), ({"normalise": True}, True), ({"length_penalty": 0.1}, False)]
)
def test_without_a_source_a_penalty_alone_is_a_reward(changes: dict[str, Any], is_none: bool) -> None:
    assert Reward.model_validate({"kind": "none", **SHAPING, **changes}).is_none is is_none
    assert not of(**changes).is_none


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


@pytest.mark.parametrize(
    ("source", "columns"),
    [
        (made("length"), ()),
        (made("exact_match", column="gold.text"), ("gold.text",)),
        (made("judge", url="https://scores.example/", model="m", rubric="{prompt} {completion} {gold}"), ("gold",)),
        (made("python", function="r.py:f"), None),
        (made("http", url="https://scores.example/"), None),
        (made("http", url="https://scores.example/", send_columns=False), ()),
    ],
)
def test_each_source_says_which_columns_it_reads(source: Any, columns: tuple[str, ...] | None) -> None:
    """None: any of them. A weighted reward reads what its parts read."""
    assert source.columns_read == columns
    parts = Weighted(kind="weighted", parts={"a": source, "b": made("math", column="x")}, weights={"a": 1.0, "b": 1.0})
    assert parts.columns_read == (None if columns is None else (*columns, "x"))
