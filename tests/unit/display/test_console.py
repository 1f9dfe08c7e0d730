"""A result on a terminal, and through a pipe."""

from __future__ import annotations

import pytest

from rlhf_cli.display.console import ResultConsole, StoppingConsole

TEXT = "0.949 s a step (rollout [0.4], update 0.2, trainer 0.1)"


def test_a_fact_is_broken_between_words_on_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    ResultConsole().print_fact("time", TEXT)
    assert capsys.readouterr().out == f"time       {TEXT}\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    ResultConsole().print_fact("time", TEXT)
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "time       0.949 s a step (rollout",
        "           [0.4], update 0.2, trainer",
        "           0.1)",
    ]
    ResultConsole().print_fact("", TEXT, 0)
    assert capsys.readouterr().out.startswith("0.949 s a step (rollout [0.4], update")


def test_a_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """rich by itself takes [red] for markup, and :100: for an emoji."""
    text = "[red]rewards.py:100: it failed[/x] :smile:"
    ResultConsole().print(text)
    StoppingConsole(stderr=True).print(text)
    assert capsys.readouterr() == (f"{text}\n", f"{text}\n")
