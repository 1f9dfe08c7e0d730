"""A language model as the judge."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf_cli.rewards.kinds.base import Unanswered
from rlhf_cli.rewards.kinds.judge import read_score
from tests.score_server import ScoreServer, send
from tests.unit.rewards.support import made, refusal, score_function


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Good. Score: 10", 1.0),
        ("score = 1", 0.0),
        ("Score: 3\nNo: **Score:** 5.5", 0.5),
        ('{"score": 10}', 1.0),
        (" 10 ", 1.0),
        ("Score: 7-8", None),
        ("Score: 4/5", None),
        ("Score: 4/5 of the points, so Score: 5.5/10.", 0.5),
        ("Score: 10 / 10", 1.0),
        ("5.5/10", 0.5),
        ("4/5", None),
        ("Score: 10/100", None),
        ("Score: 1/10/2", None),
        ("Score: 10 - nothing could be better", 1.0),
        ("Score: 7 - 8", None),
        ("Score: 7 -8", None),
        ("Score: 10-fold", None),
        ("Score: 11", None),
        ("Score: -1", None),
        ("I would give it a 7", None),
        ("", None),
    ],
)
def test_the_score_in_a_judges_answer(answer: str, expected: float | None) -> None:
    assert read_score(answer, 1, 10) == expected


def test_a_judge_is_asked_about_each_completion(server: ScoreServer) -> None:
    rubric = "{prompt}|{completion}|{answer}|{{}}"
    judge = made("judge", url=server.url, model="m", rubric=rubric, concurrency=1, seed=3)
    assert judge.needs == ("answer",)
    found = score_function(judge)(prompts=["p {completion}"] * 2, completions=["a", "b"], answer=[4, 5])
    assert found == [0.0, pytest.approx(1 / 9)]
    assert [body["messages"][0]["content"] for body in server.asked] == [
        "p {completion}|a|4|{}",
        "p {completion}|b|5|{}",
    ]
    assert {key: server.asked[0][key] for key in ("model", "seed", "temperature")} == {
        "model": "m", "seed": 3, "temperature": 0.0,
    }  # fmt: skip


def test_a_row_without_a_value_for_the_rubric_has_no_score(server: ScoreServer) -> None:
    """The model would be asked about "None", and its answer would be a score."""
    judge = made("judge", url=server.url, model="m", rubric="{completion}|{answer}", concurrency=1)
    score = score_function(judge)
    assert score(prompts=["p"] * 3, completions=["a", "b", "c"], answer=[4, None, 0], other=[None] * 3) == [
        0.0, None, pytest.approx(1 / 9),
    ]  # fmt: skip
    assert [body["messages"][0]["content"] for body in server.asked] == ["a|4", "c|0"]
    assert score(prompts=["p"], completions=["a"], answer=[None]) == [None]
    assert len(server.asked) == 2


def test_a_turn_without_a_text_is_shown_by_its_other_keys(server: ScoreServer) -> None:
    judge = made("judge", url=server.url, model="m", rubric="{prompt}|{completion}", concurrency=1)
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "größe"}]}
    chat = [{"role": "user", "content": "How big?"}, call, {"role": "tool", "content": "", "name": "x"}]
    score_function(judge)(prompts=[chat], completions=[[{"role": "assistant", "content": "3"}]])
    assert server.asked[0]["messages"][0]["content"] == (
        'user: How big?\n\nassistant: {"tool_calls": [{"name": "größe"}]}\n\ntool: |3'
    )


def test_half_an_answer_of_a_judge_is_none(server: ScoreServer) -> None:
    cut = {"choices": [{"message": {"content": "Score: 7"}, "finish_reason": "length"}]}
    server.faults = [lambda handler, body: send(handler, cut)]
    assert score_function(made("judge", url=server.url, model="m"))(prompts=["p"], completions=["a"]) == [None]
    server.faults = [lambda handler, body: send(handler, {"choices": []})]
    with pytest.raises(Unanswered, match="answered with no chat completion"):
        score_function(made("judge", url=server.url, model="m"))(prompts=["p"], completions=["a"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"rubric": "{prompt}"}, "must hold {completion}"), ({"rubric": "{completion.x}"}, "only the plain name"),
     ({"lowest": 10.0}, "lowest must be below best")],
)  # fmt: skip
def test_a_rubric_makes_sense(changes: dict[str, Any], said: str) -> None:
    assert said in refusal("judge", url="https://judge.example/v1", model="m", **changes)
