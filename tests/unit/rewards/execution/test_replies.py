"""What counts as scores of a function."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from rlhf_cli.errors import UserError
from rlhf_cli.rewards.execution.replies import as_failure, as_scores
from rlhf_cli.rewards.kinds.base import Unanswered


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


class Liar(list[float]):
    """Reports a length of its own."""

    def __init__(self, scores: Iterable[float]) -> None:
        self.scores = scores

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[float]:
        return iter(self.scores)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([1.0, 2.0], "returned 2 scores for 4 completions"),
        ([1.0], "returned 1 score for 4 completions"),
        (itertools.repeat(1.0), "returned 5+ scores for 4 completions"),
    ],
)
def test_a_list_is_as_long_as_what_it_gives(scores: Iterable[float], said: str) -> None:
    assert as_scores(Liar(scores), 4) == {"wrong": said}
    assert as_scores(Liar([1.0] * 4), 4) == {"scores": [1.0] * 4}


def raised(code: str) -> BaseException:
    """The exception that this code raises as the user's file /home/me/r.py."""
    try:
        exec(compile(code, "/home/me/r.py", "exec"), {"UserError": UserError, "Unanswered": Unanswered})
    except BaseException as error:
        return error
    raise AssertionError("raises nothing")


class Unreadable(Exception):
    """Has no message that can be read."""

    def __str__(self) -> str:
        raise KeyError


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f(x):\n    raise ValueError('bad \\n  line')\nf(1)", "raised ValueError: bad line at r.py:2"),
        ("\nraise KeyError", "raised KeyError at r.py:2"),
        ("import json\n\njson.loads('{')", "raised JSONDecodeError: Expecting property name enclosed in double quotes: "
                                         "line 1 column 2 (char 1) at r.py:3"),
        ("import sys\nsys.exit()", "called sys.exit() at r.py:2"),
        ("import sys\nsys.exit(3)", "called sys.exit(3) at r.py:2"),
        ("1 +", "raised SyntaxError: invalid syntax at r.py:1"),
        ("raise UserError('no file', where='reward', fix='make it')", "no file (reward); fix: make it"),
        ("raise ValueError('x' * 281)", f"raised ValueError: {'x' * 281} at r.py:1"),  # 300 characters before the place
        ("raise ValueError('x' * 282)", f"raised ValueError: {'x' * 281}… at r.py:1"),
        ("raise ValueError('\\ud800')", "raised ValueError: \\ud800 at r.py:1"),  # half of a surrogate pair
    ],
)  # fmt: skip
def test_a_failure_is_one_line_with_its_place(code: str, said: str) -> None:
    assert as_failure(raised(code), "/home/me/r.py") == {"failure": said}


def test_a_place_is_the_users_own_or_else_the_last_outside_of_ours() -> None:
    code = "def f(): raise ValueError('x')\nf()"
    assert as_failure(raised(code), "/home/me/other.py") == {"failure": "raised ValueError: x at r.py:1"}
    no_number: Any = None
    try:
        as_scores([1], no_number)  # fails in a file of ours, which is no place to look at
    except TypeError as error:
        (place,) = as_failure(error, "/home/me/r.py")["failure"].rpartition(" at ")[2:]
    assert place.startswith("test_replies.py:")


def test_an_answer_that_is_not_there_yet_says_when_to_ask_again() -> None:
    for after, code in ((2.5, "Unanswered('busy\\nnow', 2.5)"), (None, "Unanswered('busy\\nnow')")):
        assert as_failure(raised(f"raise {code}"), "") == {"failure": "busy now", "retry_after_s": after}


def test_an_exception_without_a_message_is_named() -> None:
    assert as_failure(Unreadable(), "") == {"failure": "raised Unreadable (its message cannot be read)"}
