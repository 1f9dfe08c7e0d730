"""`rlhf label --web`: who is let in, what a vote does, and the page in a browser. Needs the extra `label`."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.feedback.desk import Desk
from rlhf_cli.feedback.session import Question
from rlhf_cli.feedback.votes import VoteFile
from rlhf_cli.runs.lock import hold
from tests.browser import CHROMIUM, Browser
from tests.support import QUICK, Outcome, lines

pytestmark = pytest.mark.slow

HOSTILE = "<script>document.title = 'owned'</script> safe \u202etxt.exe <img src=http://elsewhere.example/x>"
HELD = {"host": "127.0.0.1:8765", "cookie": "rlhf-label-8765=secret"}
POST = HELD | {"origin": "http://127.0.0.1:8765", "x-token": "secret", "content-type": "application/json"}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"prompt {n} {HOSTILE}", "a": f"good {n}", "b": f"bad {n} {HOSTILE}"} for n in range(13)]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


@pytest.fixture
def desk(pairs: Path) -> Desk:
    return Desk(lambda: [pairs], lambda: None, print, "me", "random", 0)


@pytest.fixture
def ask(desk: Desk) -> Callable[..., tuple[int, dict[str, str], Any]]:
    """Send one request to the app: status, headers and body of the answer."""
    from rlhf_cli.feedback.web.app import build_app

    app = build_app(desk, "secret", 8765, lambda: [("win rate", "a 50 %")], None)

    def request(
        path: str = "/api/question", headers: dict[str, str] = HELD, body: Any = None, method: str = ""
    ) -> tuple[int, dict[str, str], Any]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = headers | ({"content-length": str(len(content))} if body is not None else {})
        path, _, query = path.partition("?")
        scope = {
            "type": "http", "method": method or ("GET" if body is None else "POST"), "path": path, "raw_path": path,
            "query_string": query.encode(), "root_path": "", "scheme": "http", "http_version": "1.1",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "server": ("127.0.0.1", 8765),
        }  # fmt: skip
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content if body is not None else b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(app(scope, receive, send))
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        text = b"".join(message.get("body", b"") for message in sent[1:]).decode()
        return sent[0]["status"], found, json.loads(text) if "json" in found["content-type"] else text

    return request


Ask = Callable[..., tuple[int, dict[str, str], Any]]


def test_where_more_pairs_may_come_the_page_waits_and_says_nothing_of_the_votes(
    desk: Desk, ask: Callable[..., tuple[int, dict[str, str], Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "waiting", lambda: "no pair waits \u202e")
    while (question := desk.question()) is not None:
        desk.answer(question, "a")
    status, _, body = ask()
    assert (status, body) == (200, {"done": True, "waiting": "no pair waits <U+202E>", "said": []})


def test_questions_and_votes_take_turns_in_one_thread(desk: Desk, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, own = set[int](), Desk.question

    def question(asked: Desk) -> Question | None:
        threads.add(threading.get_ident())
        return own(asked)

    monkeypatch.setattr(Desk, "question", question)
    asked = ask()[2]
    assert ask("/api/vote", POST, {"pair": asked["pair"], "vote": "first"})[0] == 200
    assert ask("/api/undo", POST, {})[0] == 200
    assert threads == {threading.get_ident()}


def test_the_link_lets_in_and_gives_a_cookie(ask: Ask) -> None:
    status, headers, page = ask("/?token=secret", {"host": "127.0.0.1:8765"})
    assert status == 200
    assert headers["set-cookie"] == "rlhf-label-8765=secret; HttpOnly; SameSite=Strict; Path=/"
    assert 'content="secret"' in page
    assert ask("/")[0] == 200
    assert ask("/label.js")[0] == 200


@pytest.mark.parametrize("path", ["/", "/label.js", "/api/question", "/api/vote", "/nowhere"])
@pytest.mark.parametrize(
    "change",
    [{"cookie": "rlhf-label-8765=wrong"}, {"cookie": ""}, {"cookie": "rlhf-label-1=secret"},
     {"host": "evil.example:8765"}, {"host": "127.0.0.1"}, {"host": "127.0.0.1:8765.evil.example"}],
    ids=str,
)  # fmt: skip
def test_strangers_are_refused(ask: Ask, path: str, change: dict[str, str]) -> None:
    status, headers, body = ask(path, HELD | change)
    assert (status, list(body)) == (403, ["error"])
    assert "set-cookie" not in headers
    assert ask(f"{path}?token=wrong", HELD | change)[0] == 403


@pytest.mark.parametrize("path", ["/api/vote", "/api/undo"])
@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "https://127.0.0.1:8765"}, 403),
        ({"x-token": "wrong"}, 403),
        ({"x-token": ""}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_a_vote_comes_from_the_page_alone(
    ask: Ask, path: str, change: dict[str, str], status: int, pairs: Path
) -> None:
    asked = ask()[2]
    assert ask(path, POST | change, {"pair": asked["pair"], "vote": "first"})[0] == status
    assert not VoteFile(pairs).file.exists()


def test_every_answer_keeps_to_itself(ask: Ask) -> None:
    for path, headers in (("/", HELD), ("/label.css", HELD), ("/api/question", HELD), ("/", {"host": "evil"})):
        found = ask(path, headers)[1]
        assert found["cache-control"] == "no-store"
        assert found["x-content-type-options"] == "nosniff"
        assert "default-src 'none'; script-src 'self'" in found["content-security-policy"]
        assert "unsafe" not in found["content-security-policy"]
        assert "access-control-allow-origin" not in found


def test_the_page_holds_no_script_and_no_style_of_its_own(ask: Ask) -> None:
    page = ask("/")[2]
    assert re.findall(r"<script[^>]*>[^<]", page) == []
    assert "style=" not in page
    assert re.findall(r"\son\w+=", page) == []


def test_votes_of_the_page(ask: Ask, pairs: Path, desk: Desk) -> None:
    asked = ask()[2]
    assert set(asked) == {"done", "pair", "number", "of", "prompt", "first", "second", "rate"}  # no name of a side
    question = desk.question()
    assert question is not None
    status, _, state = ask("/api/vote", POST, {"pair": asked["pair"], "vote": "second", "note": " why "})
    assert (status, state["number"]) == (200, 2)
    (vote,) = lines(VoteFile(pairs).file)
    assert (vote["vote"], vote["note"]) == (question.right, "why")
    status, _, state = ask("/api/vote", POST, {"pair": asked["pair"], "vote": "first"})  # gone back to, or twice
    assert (status, state["number"]) == (409, 2)
    assert len(lines(VoteFile(pairs).file)) == 1
    status, _, state = ask("/api/undo", POST, {})
    assert (status, state["pair"]) == (200, asked["pair"])
    assert ask("/api/undo", POST, {})[0] == 409


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", {"vote": "a"}, {"vote": ["first"]}, {"vote": "first", "note": 3},
             {"vote": "first", "note": "\ud800"},
             {"vote": "first", "note": "x" * 2001}, b"[" * 5000]
)  # fmt: skip
def test_what_is_no_vote_is_refused(ask: Ask, body: Any, pairs: Path) -> None:
    given = {"pair": ask()[2]["pair"], **body} if isinstance(body, dict) else body
    assert ask("/api/vote", POST, given)[0] == 400
    assert not VoteFile(pairs).file.exists()


def test_a_body_that_is_too_large(ask: Ask) -> None:
    assert ask("/api/vote", POST, b" " * (2**14 + 1))[0] == 413


def test_a_vote_that_the_disk_refuses_is_said(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ask()[2]
    monkeypatch.setattr(os, "write", lambda handle, data: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    status, _, body = ask("/api/vote", POST, {"pair": asked["pair"], "vote": "first"})
    assert (status, body) == (507, {"error": "the disk refuses, and nothing was saved: No space left on device"})
    assert ask("/api/undo", POST, {})[0] == 409


def test_the_end_says_what_the_votes_say(ask: Ask) -> None:
    while not (state := ask()[2])["done"]:
        ask("/api/vote", POST, {"pair": state["pair"], "vote": "tie"})
    assert state["said"] == [["win rate", "a 50 %"]]


def test_a_port_in_use(rlhf: Callable[..., Outcome], pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        outcome = rlhf("label", "pairs.jsonl", "--web", "--port", str(taken.getsockname()[1]))
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "cannot be had: Address already in use" in outcome.err


@contextmanager
def serving(what: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`rlhf label --web` at work: its link and its process."""
    code = "from rlhf_cli.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "label", what.name, "--web"],
        cwd=what.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    found = re.search(r"http://\S+", process.stderr.readline())
    assert found is not None
    yield found.group(), process
    process.kill()
    process.communicate()


@pytest.fixture
def served(pairs: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The page of a file."""
    with serving(pairs) as found:
        yield found


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (apt-get install chromium)")
def test_in_a_browser(served: tuple[str, subprocess.Popen[str]], pairs: Path, tmp_path: Path) -> None:
    link, process = served

    def wait(browser: Browser, number: int) -> None:
        browser.wait_for(f"document.querySelector('#title')?.textContent.startsWith('Pair {number} of 13')")

    with Browser(tmp_path / "desk", width=1280) as browser:
        browser.open(link)
        for number, key in enumerate("12tbs12t", start=1):
            wait(browser, number)
            browser.press(key)
        wait(browser, 9)
        assert browser.evaluate("location.search") == ""
        browser.call("Page.reload")
        wait(browser, 9)
        shown = browser.evaluate("document.querySelector('main').innerText")
        assert shown.count("<script>document.title = 'owned'</script>") == 2
        assert shown.count("safe <U+202E>txt.exe") == 2
        browser.press("u")
        wait(browser, 8)
        browser.press("n")
        browser.call("Input.insertText", text="typed 1 2 t")
        browser.evaluate("document.querySelector('#note').blur()")
        for number, key in enumerate("112", start=8):
            wait(browser, number)
            browser.press(key)
        wait(browser, 11)
        assert browser.evaluate("document.querySelector('#note').value") == ""
        assert browser.log == []
        assert {address.split("/api")[0].split("/label")[0].split("/icon")[0] for address in browser.requests} <= {
            link, link.partition("/?")[0], link.partition("?")[0],
        }  # fmt: skip
    for dark in (False, True):
        for width, touch in ((1280, False), (400, True)):
            with Browser(tmp_path / f"{width}{dark}", width=width, dark=dark, touch=touch) as browser:
                browser.open(link)
                wait(browser, 11)
                assert browser.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
                paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
                assert paper == ("rgb(14, 15, 18)" if dark else "rgb(246, 246, 244)")
    with Browser(tmp_path / "phone", width=400, touch=True) as browser:
        browser.open(link)
        for number, choice in enumerate(("first", "tie", "second"), start=11):
            wait(browser, number)
            browser.tap(f"[data-vote={choice}]")
        browser.wait_for("!document.querySelector('#done').hidden")
        assert "95 % interval" in browser.evaluate("document.querySelector('#said').textContent")
        assert browser.log == []
    votes = lines(VoteFile(pairs).file)
    assert [vote["note"] for vote in votes if vote["note"]] == ["typed 1 2 t"]
    assert len({vote["pair"] for vote in votes}) == 13
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "win rate" in out
    assert "Traceback" not in err


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (apt-get install chromium)")
def test_in_a_browser_it_waits_for_a_run_at_work(tmp_path: Path) -> None:
    """Pairs that come are shown without a reload; the votes are told when the run has ended."""
    from rlhf_cli.cli import run

    folder = tmp_path / "out"
    steps = ("steps=2", "checkpoint.every=2", "evaluate.every=1", "evaluate.human=1", "evaluate.prompts=2")
    assert run(["train", *QUICK, *steps, f"run_dir={folder}"]) == 0
    queue = folder / "feedback" / "queue.jsonl"
    both = queue.read_text()
    queue.write_text(both.splitlines(keepends=True)[0])  # of step 1 alone
    heading = "document.querySelector('#heading')?.textContent"
    asked = "document.querySelector('#title')?.textContent"
    with ExitStack() as stack:
        lock = stack.enter_context(ExitStack())
        lock.enter_context(hold(folder))
        link, _ = stack.enter_context(serving(folder))
        browser = stack.enter_context(Browser(tmp_path / "desk", width=1280))
        browser.open(link)
        for number in (1, 2):
            browser.wait_for(f"{asked}.startsWith('Pair {number} of 2')")
            browser.press("1")
        browser.wait_for(f"{heading}.startsWith('no pair waits; the run has done step 2')")
        queue.write_text(both)
        for number in (1, 2):
            browser.wait_for(f"{asked}.startsWith('Pair {number} of 2')")
            browser.press("2")
        browser.wait_for(f"{heading}.startsWith('no pair waits')")
        lock.close()
        browser.wait_for(f"{heading} === 'Every pair has a vote'")
        assert browser.log == []
