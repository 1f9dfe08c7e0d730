"""What is made of scores, by hand."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from rlhf_cli.rewards.reward import Reward
from rlhf_cli.rewards.shaping import Spread, shape
from tests.unit.support import SHAPING

FINITE = st.floats(-1e6, 1e6)


def of(**changes: Any) -> Reward:
    return Reward.model_validate({"kind": "sentiment", **SHAPING, **changes})


def by(reward: Reward) -> list[float]:
    return shape([0.5, -3.0, 2.0], [1, 10, 4], [False, True, False], reward)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [0.5, -3.0, 2.0]),
        ({"clip": (-1.0, 1.0)}, [0.5, -1.0, 1.0]),
        ({"length_penalty": 0.25}, [0.25, -5.5, 1.0]),
        ({"truncated": "penalty", "truncated_penalty": 2.0}, [0.5, -5.0, 2.0]),
        ({"truncated_penalty": 2.0}, [0.5, -3.0, 2.0]),  # a penalty that nobody asked for
        ({"truncated": "mask"}, [0.5, -3.0, 2.0]),
        # clipped first: -1 - 10 * 0.25 - 1
        ({"clip": (-1.0, 1.0), "length_penalty": 0.25, "truncated": "penalty"}, [0.25, -4.5, 0.0]),
    ],
)
def test_shaped_by_hand(changes: dict[str, Any], expected: list[float]) -> None:
    assert by(of(**changes)) == expected


def test_spread_by_hand() -> None:
    # 1, 2, 3, 6: mean 3, squares 4 + 1 + 0 + 9 = 14
    spread = Spread().observe([1.0, 2.0]).observe([3.0, 6.0])
    assert (spread.count, spread.mean, spread.squares) == (4, 3.0, 14.0)
    assert spread.deviation == math.sqrt(3.5)
    assert_close(spread.normalise(torch.tensor([3.0, 5.0])), torch.tensor([0.0, 2 / (math.sqrt(3.5) + 1e-4)]))


@given(st.lists(FINITE, min_size=1, max_size=20), st.lists(FINITE, max_size=20))
def test_spread_is_that_of_all_it_has_seen_however_it_was_divided(first: list[float], second: list[float]) -> None:
    spread = Spread().observe(first).observe(second)
    assert spread.mean == pytest.approx(statistics.fmean([*first, *second]), rel=1e-9, abs=1e-6)
    assert spread.deviation == pytest.approx(statistics.pstdev([*first, *second]), rel=1e-6, abs=1e-3)


def test_equal_scores_are_not_blown_up() -> None:
    scores = torch.full((4,), 0.7)
    assert_close(Spread().observe(scores.tolist()).normalise(scores), torch.zeros(4))


def test_before_anything_was_seen_nothing_is_divided_by_zero() -> None:
    assert Spread().observe([]) == Spread()
    assert Spread().deviation == 0.0
