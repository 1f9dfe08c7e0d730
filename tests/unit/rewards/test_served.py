"""Rewards that ask a server: http and judge, against a real one in a thread of this process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.rewards.kinds.base import Unanswered
from rlhf_cli.rewards.kinds.judge import read
from tests.support import Outcome, lines
from tests.unit.rewards.support import made, refusal, scorer_of

Rlhf = Callable[..., Outcome]
TOKEN = "tkn-5f0c9a"
TEXTS = ["a", "bb", "ccc"]


class Server:
    """Scores by length, unless `faults` has something else to do first; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.faults: list[Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(body)
                outer.headers.append(dict(self.headers))
                fault = outer.faults.pop(0) if outer.faults else None
                if fault:
                    fault(self, body)
                elif "messages" in body:
                    send(self, {"choices": [{"message": {"content": f"Fine. Score: {len(outer.asked)}"}}]})
                else:
                    send(self, {"id": body["id"], "scores": [len(text) for text in body["completions"]]})

            def log_message(self, *of: Any) -> None:
                """Silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/score"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


def send(
    handler: BaseHTTPRequestHandler, body: Any, status: int = 200, kind: str = "application/json", **more: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **more}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture
def server() -> Iterator[Server]:
    made_one = Server()
    yield made_one
    made_one.server.shutdown()
    made_one.server.server_close()


def scores(server: Server, texts: list[Any] = TEXTS, **changes: Any) -> list[float | None]:
    score = scorer_of(made("http", url=server.url, **changes))
    return score(prompts=["p"] * len(texts), completions=texts, answer=list(range(len(texts))))


def unanswered(server: Server, **changes: Any) -> Unanswered:
    with pytest.raises(Unanswered) as caught:
        scores(server, **changes)
    return caught.value


def test_it_sends_what_a_function_would_be_given(server: Server) -> None:
    assert scores(server, batch_size=2) == [1, 2, 3]
    first, second = sorted(server.asked, key=lambda body: len(body["completions"]), reverse=True)
    assert (first["prompts"], first["completions"], first["columns"]) == (["p", "p"], ["a", "bb"], {"answer": [0, 1]})
    assert second["completions"] == ["ccc"]
    assert first["id"] != second["id"]
    assert "Authorization" not in server.headers[0]


def test_columns_stay_at_home_where_that_is_wanted(server: Server) -> None:
    scores(server, send_columns=False)
    assert server.asked[0]["columns"] == {}


@pytest.mark.parametrize(
    ("status", "after"), [(500, True), (503, True), (429, True), (408, True), (400, False), (401, False), (404, False)]
)
def test_what_may_pass_is_worth_another_try_and_what_may_not_is_not(server: Server, status: int, after: bool) -> None:
    server.faults = [lambda handler, body: send(handler, {"error": "so it is"}, status)]
    error = unanswered(server)
    assert (error.after_s is not None) == after
    assert str(error).startswith(f"answered {status} ")
    assert "so it is" in str(error)


def test_it_waits_as_long_as_it_is_asked_to(server: Server) -> None:
    server.faults = [lambda handler, body: send(handler, {}, 429, Retry_After="7")]
    assert unanswered(server).after_s == 7.0


def test_it_waits_longer_each_time_and_what_is_answered_is_not_asked_again(server: Server) -> None:
    score = scorer_of(made("http", url=server.url, batch_size=1, concurrency=1))
    down = [lambda handler, body: send(handler, {}, 503)] * 4
    server.faults = down[:3]  # all three; then one of the three, which are asked one after the other
    waits = []
    for faults in (None, down[:1]):
        with pytest.raises(Unanswered) as caught:
            score(prompts=["p"] * 3, completions=TEXTS)
        waits.append(caught.value.after_s)
        server.faults = faults or down[:1]
    assert 0.25 <= waits[0] <= 0.5 <= waits[1] <= 1.0
    server.faults = []
    server.asked.clear()
    assert score(prompts=["p"] * 3, completions=TEXTS) == [1, 2, 3]
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"scores": [1, 2]}, "answered with 2 scores for 3 completions"),
        ({"scores": [1, 2, "3"]}, "answered with '3' as a score, which is neither a number nor null"),
        ({"scores": [1, 2, True]}, "answered with True as a score"),
        ({"scores": 1}, 'answered with no {"id": ..., "scores": [...]}'),
        ({"id": "other", "scores": [1, 2, 3]}, "answered another request: id 'other'"),
        ([1, 2, 3], "answered with no {"),
    ],
)
def test_a_wrong_answer_is_no_score(server: Server, answer: Any, said: str) -> None:
    def fault(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        send(handler, {"id": body["id"], **answer} if isinstance(answer, dict) else answer)

    server.faults = [fault]
    error = unanswered(server)
    assert str(error).startswith(said)
    assert error.after_s is None


def test_null_and_nan_are_for_on_error_to_decide(server: Server) -> None:
    def fault(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        send(handler, f'{{"id": "{body["id"]}", "scores": [null, NaN, 1.5]}}'.encode())

    server.faults = [fault]
    first, second, third = scores(server)
    assert (first, second != second, third) == (None, True, 1.5)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda handler, body: send(handler, b"<html>", kind="text/html"), "answered with text/html, not application/"),
        (lambda handler, body: send(handler, b"{oops"), "answered with what is no JSON: {oops"),
        (lambda handler, body: send(handler, b"[" * 4000), "answered with what is no JSON"),
        (lambda handler, body: send(handler, b" " * 5000), "answered with more than 4096 bytes"),
        (
            lambda handler, body: send(handler, {}, 307, Location="http://127.0.0.1:9/"),
            "answered 307 Temporary Redirect; redirects are not followed",
        ),
        (lambda handler, body: handler.connection.close(), "gave no answer: "),
    ],
)
def test_what_is_no_answer_at_all(server: Server, fault: Any, said: str) -> None:
    server.faults = [fault]
    assert str(unanswered(server, max_response_bytes=4096)).startswith(said)


def test_a_slow_drip_ends(server: Server) -> None:
    def drip(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        for _ in range(40):
            try:
                handler.wfile.write(b" ")
                handler.wfile.flush()
            except OSError:
                return
            time.sleep(0.05)

    server.faults = [drip]
    began = time.monotonic()
    assert "more than 0.3 s" in str(unanswered(server, request_timeout_s=0.3))
    assert time.monotonic() - began < 1.5


def test_nobody_there_is_seen_at_the_start() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        scorer_of(made("http", url=f"http://127.0.0.1:{port}/"))


def test_the_token_is_sent_and_never_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = made("http", url=server.url, token_env="SCORES_TOKEN")
    monkeypatch.delenv("SCORES_TOKEN", raising=False)
    with pytest.raises(UserError, match="the environment variable SCORES_TOKEN is not set"):
        reward.check("reward")
    monkeypatch.setenv("SCORES_TOKEN", TOKEN)
    reward.check("reward")
    server.faults = [lambda handler, body: send(handler, {"you": handler.headers["Authorization"]}, 403)]
    error = unanswered(server, token_env="SCORES_TOKEN")
    assert server.headers[0]["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in str(error)
    assert "***" in str(error)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/", "url must be https://HOST/..., or http:// on this machine"),
        ("localhost:8001", "url must be https://HOST"),
        ("http://scores.example/", "url is http and not this machine"),
        ("https://me:secret@scores.example/", "url must hold no password"),
    ],
)
def test_where_prompts_may_be_sent(url: str, said: str) -> None:
    assert said in refusal("http", url=url)
    assert said in refusal("judge", url=url, model="m")


def test_it_says_that_prompts_leave_the_machine() -> None:
    assert made("http", url="https://scores.example/x").notice() == (
        "reward: prompts and completions are sent to scores.example"
    )
    assert made("http", url="http://scores.example/x", insecure=True).notice()
    assert made("http", url="http://localhost:1/x").notice() == ""


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
        ("Score: 11", None),
        ("Score: -1", None),
        ("I would give it a 7", None),
        ("", None),
    ],
)
def test_the_score_in_a_judges_answer(answer: str, expected: float | None) -> None:
    assert read(answer, 1, 10) == expected


def test_a_judge_is_asked_about_each_completion(server: Server) -> None:
    rubric = "{prompt}|{completion}|{answer}|{{}}"
    judge = made("judge", url=server.url, model="m", rubric=rubric, concurrency=1, seed=3)
    assert judge.needs == ("answer",)
    found = scorer_of(judge)(prompts=["p {completion}"] * 2, completions=["a", "b"], answer=[4, 5])
    assert found == [0.0, pytest.approx(1 / 9)]
    assert [body["messages"][0]["content"] for body in server.asked] == [
        "p {completion}|a|4|{}",
        "p {completion}|b|5|{}",
    ]
    assert {key: server.asked[0][key] for key in ("model", "seed", "temperature")} == {
        "model": "m", "seed": 3, "temperature": 0.0,
    }  # fmt: skip


def test_half_an_answer_of_a_judge_is_none(server: Server) -> None:
    cut = {"choices": [{"message": {"content": "Score: 7"}, "finish_reason": "length"}]}
    server.faults = [lambda handler, body: send(handler, cut)]
    assert scorer_of(made("judge", url=server.url, model="m"))(prompts=["p"], completions=["a"]) == [None]
    server.faults = [lambda handler, body: send(handler, {"choices": []})]
    with pytest.raises(Unanswered, match="answered with no chat completion"):
        scorer_of(made("judge", url=server.url, model="m"))(prompts=["p"], completions=["a"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"rubric": "{prompt}"}, "must hold {completion}"), ({"rubric": "{completion.x}"}, "only the plain name"),
     ({"lowest": 10.0}, "lowest must be below best")],
)  # fmt: skip
def test_a_rubric_makes_sense(changes: dict[str, Any], said: str) -> None:
    assert said in refusal("judge", url="https://judge.example/v1", model="m", **changes)


def test_a_run_is_scored_by_the_server_and_its_token_stands_nowhere(
    server: Server, rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORES_TOKEN", TOKEN)
    few = ("config=tiny", "steps=2", "evaluate.every=0", "max_new_tokens=4", "display=plain", "run_dir=out")
    server.faults = [lambda handler, body: send(handler, {}, 503, Retry_After="0")]
    outcome = rlhf("train", *few, "reward=http", f"reward.url={server.url}", "reward.token_env=SCORES_TOKEN")
    assert outcome.code == 0, outcome.err
    assert [row["reward/retries"] for row in lines(tmp_path / "out" / "timings.jsonl")] == [1, 0]
    assert server.headers[-1]["Authorization"] == f"Bearer {TOKEN}"
    files = [Path(folder) / file for folder, _, files in os.walk(tmp_path) for file in files]
    assert len(files) > 5
    assert not any(TOKEN.encode() in file.read_bytes() for file in files)
    assert TOKEN not in outcome.out + outcome.err
    assert rlhf("train", *few[:-1], "run_dir=j", "reward=judge", f"reward.url={server.url}", "reward.model=m").code == 0


def test_the_example_server_scores(rlhf: Rlhf, tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "docs/examples/reward_server/server.py"
    process = subprocess.Popen([sys.executable, example, "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        score = scorer_of(made("http", url=url))
        ten = "one two three four five six seven eight nine ten"
        assert score(prompts=["p", "p"], completions=[ten, [{"role": "assistant", "content": "one"}]]) == [1.0, 0.1]
    finally:
        process.kill()
        process.communicate()
