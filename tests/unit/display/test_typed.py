"""display.typed: keys, lines, and what waits for its question."""

from __future__ import annotations

import io
import os
import pty
import sys
from collections.abc import Iterator

import pytest
from rich.console import Console

from rlhf_cli.display.typed import Typed


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A pipe as stdin; its other end."""
    reading, writing = os.pipe()
    with open(reading, encoding="ascii") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield writing


def typed() -> Typed:
    return Typed(Console(stderr=True))


def test_lines_written_ahead_wait_for_their_questions(pipe: int) -> None:
    os.write(pipe, "1\nn a n\u00f6te\nt".encode())
    found = typed()
    assert found.wait(0.0) is None
    assert found.read() == ("1", "")
    assert found.wait(0.0) is None
    assert found.read() == ("n", "a n\u00f6te")
    os.close(pipe)
    assert found.wait(0.0) is None  # half a line without an end is one, at the end
    assert [found.read() for _ in range(3)] == [("t", ""), ("q", ""), ("q", "")]


@pytest.mark.parametrize("last", ["", "q\n"])
def test_the_end_of_a_pipe_ends_a_wait(last: str, pipe: int) -> None:
    found = typed()
    assert found.wait(0.0) is None
    os.write(pipe, last.encode())
    os.close(pipe)
    assert "q" in [found.wait(0.0) for _ in range(3)]
    assert found.read() == ("q", "")


@pytest.mark.parametrize("text", ["1\n", ""])
def test_a_stdin_of_this_process(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    found = typed()
    assert found.wait(0.0) == (None if text else "q")
    assert found.read() == (("1", "") if text else ("q", ""))
    assert found.wait(0.0) == "q"


def test_without_stdin_there_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert typed().read() == ("q", "")


def test_a_key_ends_a_wait_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    with open(slave, encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        found, waited = typed(), []
        import rlhf_cli.display.typed as module

        real = module.select.select

        def select(*arguments: object) -> object:
            os.write(master, b"U")  # pressed while it waits
            return real([slave], [], [], 1.0)

        assert found.wait(0.0) is None
        monkeypatch.setattr("rlhf_cli.display.typed.select.select", select)
        waited.append(found.wait(1.0))
    os.close(master)
    assert waited == ["u"]


def test_a_terminal_that_hangs_up_after_escape_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    import rlhf_cli.display.typed as module

    pieces = iter([b"\x1b", b""])
    monkeypatch.setattr(module.os, "read", lambda handle, size: next(pieces))
    monkeypatch.setattr(module.select, "select", lambda *streams: ([0], [], []))
    assert module._key(0) == "\x1b"
