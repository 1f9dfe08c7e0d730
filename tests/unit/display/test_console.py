"""A result on a terminal, and through a pipe."""

from __future__ import annotations

import pytest

from rlhf_cli.display.console import ResultConsole

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
