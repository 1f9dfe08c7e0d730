"""Messages of a reward's process: no score comes out that the function did not give."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rlhf_cli.rewards.execution.messages import (
    CallFailed,
    FunctionInfo,
    FunctionScores,
    Garbled,
    InvalidFunction,
    read_message,
)
from rlhf_cli.rewards.execution.replies import as_scores
from tests.unit.rewards.execution.support import Opened, ask, refused


class Liar(list[float]):
    """A list that says another length than it has."""

    def __len__(self) -> int:
        return 4


@pytest.mark.case(68)
@pytest.mark.parametrize(("values", "said"), [([1.0], "1 score"), ([1.0] * 9, "5+ scores")])
def test_a_list_that_lies_about_its_length(values: list[float], said: str) -> None:
    assert as_scores(Liar(values), 4) == {"wrong": f"returned {said} for 4 completions"}


@pytest.mark.parametrize(
    "line",
    [b"", b"x\n", b"{}\n", b"[]\n", b"null\n", b'{"number": 2, "scores": []}\n', b"[" * 9999, b"\xff\n", b"1\n{}\n"],
)
def test_what_is_no_message(line: bytes) -> None:
    with pytest.raises(Garbled):
        read_message(line, 1)


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"scores": 1},
        {"scores": ["1"]},
        {"scores": [True]},
        {"scores": [1.0], "more": 1},
        {"scores": [1.0], "wrong": "bad"},
        {"failure": 7},
        {"failure": "slow", "retry_after_s": "soon"},
        {"sha256": None, "takes": None},
    ],
)
def test_messages_of_another_shape(reply: dict[str, Any]) -> None:
    with pytest.raises(Garbled):
        read_message(json.dumps({"number": 1, **reply}).encode(), 1)


def test_messages() -> None:
    def read(**reply: Any) -> FunctionInfo | FunctionScores:
        return read_message(json.dumps({"number": 1, **reply}).encode() + b"\n", 1)

    assert read(scores=[None, 1, float("inf")]) == FunctionScores(1, [None, 1.0, float("inf")])
    assert read(scores=[1], notes=["short"]) == FunctionScores(1, [1.0], ["short"])
    assert read(sha256=None, takes=["a"], needs=[]) == FunctionInfo(1, None, ["a"], [])
    with pytest.raises(InvalidFunction, match=r"^bad$"):
        read(wrong="bad")
    with pytest.raises(CallFailed, match=r"^slow$") as caught:
        read(failure="slow", retry_after_s=None)
    assert (caught.value.is_batch_wide, caught.value.retry_after_s) == (True, None)
    with pytest.raises(CallFailed, match=r"^broken$") as caught:
        read(failure="broken")
    assert (caught.value.is_batch_wide, caught.value.retry_after_s) == (False, 0.0)


@pytest.mark.parametrize("scores", [[], [1.0, 2.0]])
def test_an_answer_with_another_number_of_scores_is_garbage(scores: list[float], opened: Opened) -> None:
    source = opened(
        f"""
        import sys
        def f(completions):
            main = sys.modules["__main__"]
            main._replies().as_scores = lambda result, count: {{'scores': {scores}}}
            return []
        """,
        retries=0,
    )
    assert "wrote something else than its scores to the pipe" in refused(lambda: ask(source))


@pytest.mark.case(68)
def test_garbage_on_the_pipe_is_a_failure_of_its_completion(opened: Opened) -> None:
    source = opened(
        """
        import os
        def f(completions):
            if "bb" in completions:
                for number in range(3, 1024):
                    try:
                        os.write(number, b'{"number": 1, "scores": [9, 9, 9, 9]}x\\n')
                    except OSError:
                        pass
            return [1] * len(completions)
        """,
        on_error="value",
        retries=1,
    )
    found = ask(source)
    assert found.scores == [1.0, -7.0, 1.0, 1.0]
    assert found.retries == 2
    assert "wrote something else than its scores to the pipe" in found.failures[1]


@pytest.mark.case(68)
def test_a_function_may_replace_what_it_likes(opened: Opened) -> None:
    source = opened(
        """
        import builtins, json, os, sys
        json.dumps = json.loads = os.write = builtins.print = None
        sys.stdout = sys.stderr = None
        def f(completions):
            return [len(text) for text in completions]
        """
    )
    assert ask(source).scores == ask(source).scores == [1.0, 2.0, 3.0, 4.0]
