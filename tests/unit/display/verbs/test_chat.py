"""display.verbs.chat."""

from __future__ import annotations

import builtins
import sys

import pytest

from rlhf_cli.display.verbs.chat import Answer, type_turns


def grow(*texts: str) -> None:
    answer = Answer("policy     ")
    for text in texts[:-1]:
        answer.grow(text)
    answer.end(texts[-1])


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (("a", "a b", "a b"), "a b"),
        (("caf\N{REPLACEMENT CHARACTER}", "café", "café"), "café"),
        (("a\x1b[2J", "a\x1b[2J"), "a\N{MIDDLE DOT}[2J"),
        (("do", "do n", "don't", "don't go"), "do n\npolicy     don't go"),  # a tokenizer that takes a space back
        (("", ""), ""),
        (("half \N{REPLACEMENT CHARACTER}", "half \N{REPLACEMENT CHARACTER}"), "half \N{REPLACEMENT CHARACTER}"),
    ],
)
def test_an_answer_grows_on_a_terminal(
    texts: tuple[str, ...], shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    grow(*texts)
    assert capsys.readouterr().out == f"policy     {shown}\n"


def test_a_pipe_gets_the_whole_answer_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    grow("a", "a\x1b", "a\x1b b")
    assert capsys.readouterr().out == "policy     a\x1b b\n"


def test_ctrl_c_drops_a_line_and_ctrl_d_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    script = iter(["one", KeyboardInterrupt, "two", EOFError])

    def type_one(prompt: str = "") -> str:
        step = next(script)
        if isinstance(step, str):
            return step
        raise step

    monkeypatch.setattr(builtins, "input", type_one)
    assert list(type_turns()) == ["one", "two"]
    assert "Ctrl-D or /quit ends the chat" in capsys.readouterr().err
