"""Requests to a server that is slow, down, wrong or hostile."""

from __future__ import annotations

import codecs
import gzip
import json
import socket
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from rlhf_cli.rewards.http_client import Client
from rlhf_cli.rewards.kinds.base import Unanswered
from tests.score_server import ScoreServer, send
from tests.unit.rewards.http import TEXTS, scores, unanswered
from tests.unit.rewards.support import made, score_function

TOKEN = "tkn-5f0c9a"


@pytest.mark.parametrize(
    ("status", "is_passing"),
    [(500, True), (503, True), (429, True), (408, True), (400, False), (401, False), (404, False)],
)
def test_what_may_pass_is_worth_another_try_and_what_may_not_is_not(
    server: ScoreServer, status: int, is_passing: bool
) -> None:
    server.faults = [lambda handler, body: send(handler, {"error": "so it is"}, status)]
    error = unanswered(server)
    assert (error.retry_after_s is not None) == is_passing
    assert str(error).startswith(f"answered {status} ")
    assert "so it is" in str(error)


def test_it_waits_as_long_as_it_is_asked_to(server: ScoreServer) -> None:
    server.faults = [lambda handler, body: send(handler, {}, 429, Retry_After="7")]
    assert unanswered(server).retry_after_s == 7.0


def test_it_waits_longer_each_time_and_what_is_answered_is_not_asked_again(server: ScoreServer) -> None:
    score = score_function(made("http", url=server.url, batch_size=1, concurrency=1))
    down = [lambda handler, body: send(handler, {}, 503)] * 4
    server.faults = down[:3]  # all three; then one of the three, which are asked one after the other
    waits = []
    for faults in (None, down[:1]):
        with pytest.raises(Unanswered) as caught:
            score(prompts=["p"] * 3, completions=TEXTS)
        waits.append(caught.value.retry_after_s)
        server.faults = faults or down[:1]
    assert 0.25 <= waits[0] <= 0.5 <= waits[1] <= 1.0
    server.faults = []
    server.asked.clear()
    assert score(prompts=["p"] * 3, completions=TEXTS) == [1, 2, 3]
    assert len(server.asked) == 1


def test_after_thousands_of_tries_it_still_waits_and_asks_again(server: ScoreServer) -> None:
    """0.5 * 2**1025 is no float: the reward failed with an OverflowError after as many tries."""
    client = Client(server.url, made("http", url=server.url))
    client._tries, client._batch = 5000, ["{}"]
    server.faults = [lambda handler, body: send(handler, {}, 503)]
    with pytest.raises(Unanswered) as caught:
        client.ask([{}])
    assert 15 <= caught.value.retry_after_s <= 30


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda handler, body: send(handler, b"<html>", kind="text/html"), "answered with text/html, not application/"),
        (
            lambda handler, body: send(handler, b"{oops"),
            "answered with a text that is not JSON: Expecting property name",
        ),
        (lambda handler, body: send(handler, b"[" * 4000), "answered with a text that is not "),
        (lambda handler, body: send(handler, b" " * 5000), "answered with more than 4096 bytes"),
        (
            lambda handler, body: send(handler, {}, 307, Location="http://127.0.0.1:9/"),
            "answered 307 Temporary Redirect; redirects are not followed",
        ),
        (lambda handler, body: handler.connection.close(), "gave no answer: "),
    ],
)
def test_what_is_no_answer_at_all(server: ScoreServer, fault: Any, said: str) -> None:
    server.faults = [fault]
    assert str(unanswered(server, max_response_bytes=4096)).startswith(said)


def test_a_slow_drip_ends(server: ScoreServer) -> None:
    def drip(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        for _ in range(400):
            try:
                handler.wfile.write(b" ")
                handler.wfile.flush()
            except OSError:
                return
            time.sleep(0.05)

    server.faults = [drip]
    began = time.monotonic()
    assert "more than 0.3 s" in str(unanswered(server, request_timeout_s=0.3))
    assert time.monotonic() - began < 10  # of 20


def test_nobody_there_is_seen_at_the_start() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        score_function(made("http", url=f"http://127.0.0.1:{port}/"))


def test_the_token_is_sent_and_never_told(server: ScoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORES_TOKEN", TOKEN)
    server.faults = [lambda handler, body: send(handler, {"you": handler.headers["Authorization"]}, 403)]
    error = unanswered(server, token_env="SCORES_TOKEN")
    assert server.headers[0]["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in str(error)
    assert "***" in str(error)


def test_the_token_is_hidden_wherever_the_server_repeats_it(
    server: ScoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORES_TOKEN", TOKEN)

    def in_reason(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        handler.send_response(403, f"no {TOKEN}")
        handler.end_headers()

    def in_kind(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        send(handler, b"", kind=f"text/{TOKEN}")

    for fault in (in_reason, in_kind):
        server.faults = [fault]
        said = str(unanswered(server, token_env="SCORES_TOKEN"))
        assert TOKEN not in said
        assert "***" in said


def test_a_proxy_of_the_environment_never_stands_before_this_machine(
    server: ScoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert scores(server) == [1, 2, 3]


def test_a_proxy_of_the_environment_stands_before_other_machines(
    server: ScoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/score"))
    score = score_function(made("http", url="http://scores.invalid/score", insecure=True))
    assert score(prompts=["p"], completions=["abc"]) == [3]
    assert server.headers[0]["Host"] == "scores.invalid"


def test_nothing_is_unpacked(server: ScoreServer) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    server.faults = [lambda handler, body: send(handler, bomb, Content_Encoding="gzip")]
    assert str(unanswered(server, max_response_bytes=4096)).startswith("answered with more than 4096 bytes")
    server.faults = [lambda handler, body: send(handler, gzip.compress(b"[]"), Content_Encoding="gzip")]
    assert str(unanswered(server)).startswith("answered with a text that is not JSON")
    assert server.headers[0]["Accept-Encoding"] == "identity"


def test_a_byte_order_mark_before_the_answer_is_passed_over(server: ScoreServer) -> None:
    def with_mark(handler: BaseHTTPRequestHandler, body: Any) -> None:
        answer = json.dumps({"id": body["id"], "scores": [1, 2, 3]}).encode()
        send(handler, codecs.BOM_UTF8 + answer)

    server.faults = [with_mark]
    assert scores(server) == [1, 2, 3]


def test_no_cookie_is_kept(server: ScoreServer) -> None:
    score = score_function(made("http", url=server.url))
    server.faults = [lambda handler, body: send(handler, {"id": body["id"], "scores": [1]}, Set_Cookie="a=b")]
    for _ in range(2):
        score(prompts=["p"], completions=["a"])
    assert len(server.headers) == 2
    assert "Cookie" not in server.headers[1]


@pytest.mark.case(60)
def test_a_localhost_that_is_another_machine_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Connection:
        def __enter__(self) -> Connection:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def getpeername(self) -> tuple[str, int]:
            return "192.0.2.7", 80

    monkeypatch.setattr(socket, "create_connection", lambda *arguments: Connection())
    with pytest.raises(OSError, match=r"localhost is 192\.0\.2\.7, which is not this machine"):
        score_function(made("http", url="http://localhost/score"))
