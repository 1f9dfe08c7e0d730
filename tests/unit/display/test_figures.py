"""display.figures."""

from __future__ import annotations

import pytest

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.display.figures import compared


def test_names_with_brackets_are_shown_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    rows = [("reward/[bold]tone", "1", "2", "+1"), ("[/x]:100:", "3", "4", "+1")]
    ResultConsole().print(compared(("[red]a", "b[/]", "difference"), rows, "title", "[caption]"))
    out = capsys.readouterr().out
    for name in ("[red]a", "b[/]", "reward/[bold]tone", "[/x]:100:", "[caption]"):
        assert name in out
