"""A server of the user's: what it is sent, and what counts as its scores."""

from __future__ import annotations

import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.score_server import ScoreServer, send
from tests.unit.rewards.http import scores, unanswered
from tests.unit.rewards.support import made, score_function


def test_it_sends_what_a_function_would_be_given(server: ScoreServer) -> None:
    assert scores(server, batch_size=2) == [1, 2, 3]
    first, second = sorted(server.asked, key=lambda body: len(body["completions"]), reverse=True)
    assert (first["prompts"], first["completions"], first["columns"]) == (["p", "p"], ["a", "bb"], {"answer": [0, 1]})
    assert second["completions"] == ["ccc"]
    assert first["id"] != second["id"]
    assert "Authorization" not in server.headers[0]


def test_columns_stay_at_home_where_that_is_wanted(server: ScoreServer) -> None:
    scores(server, send_columns=False)
    assert server.asked[0]["columns"] == {}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"scores": [1, 2]}, "answered with 2 scores for 3 completions"),
        ({"scores": [1]}, "answered with 1 score for 3 completions"),
        ({"scores": [1, 2, "3"]}, "answered with text as a score, which is neither a number nor null"),
        ({"scores": [1, 2, True]}, "answered with true or false as a score"),
        ({"scores": 1}, 'answered with no {"id": ..., "scores": [...]}'),
        ({"id": "other", "scores": [1, 2, 3]}, "answered another request: its id is not '"),
        ([1, 2, 3], "answered with no {"),
    ],
)
def test_a_wrong_answer_is_no_score(server: ScoreServer, answer: Any, said: str) -> None:
    def fault(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        send(handler, {"id": body["id"], **answer} if isinstance(answer, dict) else answer)

    server.faults = [fault]
    error = unanswered(server)
    assert str(error).startswith(said)
    assert error.retry_after_s is None


def test_null_and_nan_are_for_on_error_to_decide(server: ScoreServer) -> None:
    def fault(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        send(handler, f'{{"id": "{body["id"]}", "scores": [null, NaN, 1.5]}}'.encode())

    server.faults = [fault]
    first, second, third = scores(server)
    assert (first, second != second, third) == (None, True, 1.5)


def test_the_example_server_scores() -> None:
    example = Path(__file__).parents[4] / "docs/examples/reward_server/server.py"
    process = subprocess.Popen([sys.executable, example, "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        score = score_function(made("http", url=url))
        ten = "one two three four five six seven eight nine ten"
        assert score(prompts=["p", "p"], completions=[ten, [{"role": "assistant", "content": "one"}]]) == [1.0, 0.1]
    finally:
        process.kill()
        process.communicate()
