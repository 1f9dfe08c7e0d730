"""What counts as scores of a function."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from rlhf_cli.rewards.execution.replies import as_scores


@pytest.mark.parametrize(
    "result",
    [
        [1, 0.5, True, -2],
        (1, 0.5, True, -2),
        np.array([1, 0.5, 1, -2]),
        np.array([1, 0.5, 1, -2], dtype=np.float32),
        [np.float32(1), np.float64(0.5), np.bool_(True), np.int64(-2)],
        [np.array(1.0), 0.5, True, -2],
        torch.tensor([1, 0.5, 1, -2], requires_grad=True),
        [*torch.tensor([1, 0.5, 1, -2], requires_grad=True)],
    ],
    ids=repr,
)
def test_numbers_of_any_kind_are_scores(result: Any) -> None:
    scores = as_scores(result, 4)["scores"]
    assert scores == [1.0, 0.5, 1.0, -2.0]
    assert {type(score) for score in scores} == {float}


def test_what_is_no_finite_number_is_passed_on() -> None:
    assert as_scores([None, 10**400, -(10**400), math.inf], 4) == {"scores": [None, math.inf, -math.inf, math.inf]}


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (None, "returned None, not a list of 4 scores"),
        (0.5, "returned a value of type float, not a list of 4 scores"),
        (np.array(0.5), "returned a value of type float, not a list of 4 scores"),
        ("good", "returned a value of type str, not a list of 4 scores"),
        ({}, "returned a value of type dict, not a list of 4 scores"),
        ((1 for _ in range(4)), "returned a value of type generator, not a list of 4 scores"),
        ([], "returned 0 scores for 4 completions"),
        ([1] * 5, "returned 5 scores for 4 completions"),
        ([[1], [1], [1], [1]], "returned a value of type list as score 1 of 4, not a number or None"),
        (np.ones((4, 1)), "returned a value of type list as score 1 of 4, not a number or None"),
        ([1, 1, "1", 1], "returned a value of type str as score 3 of 4, not a number or None"),
        ([1, 1, np.ones(2), 1], "returned a value of type ndarray as score 3 of 4, not a number or None"),
        ([1, 1, 1, 1j], "returned a value of type complex as score 4 of 4, not a number or None"),
    ],
)
def test_anything_else_is_no_list_of_scores(result: Any, said: str) -> None:
    assert as_scores(result, 4) == {"wrong": said}


@pytest.mark.parametrize(
    ("result", "count", "said"),
    [
        ([1], 2, "returned 1 score for 2 completions"),
        ([1, 1], 1, "returned 2 scores for 1 completion"),
        (None, 1, "returned None, not a list of 1 score"),
    ],
)
def test_one_is_no_plural(result: Any, count: int, said: str) -> None:
    assert as_scores(result, count) == {"wrong": said}
