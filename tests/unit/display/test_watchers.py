"""display.watchers."""

from __future__ import annotations

import os
import sys

import pytest

from rlhf_cli.display import watchers
from rlhf_cli.display.dashboard import Dashboard
from rlhf_cli.display.lines import JsonLines, PhaseBars, Plain, Quiet
from rlhf_cli.display.watchers import progress, watcher
from tests.unit.display.samples import (
    console,
    report_run,
)


class TestWatcher:
    """display= chooses the watcher."""

    @pytest.mark.parametrize(
        ("name", "on_terminal", "elsewhere"),
        [
            ("auto", Dashboard, Plain),
            ("live", Dashboard, Dashboard),
            ("plain", Plain, Plain),
            ("json", JsonLines, JsonLines),
            ("quiet", Quiet, Quiet),
        ],
    )
    def test_the_kind(self, monkeypatch: pytest.MonkeyPatch, name: str, on_terminal: type, elsewhere: type) -> None:
        for terminal, expected in ((True, on_terminal), (False, elsewhere)):
            monkeypatch.setattr(watchers, "StoppingConsole", lambda terminal=terminal, **_: console(terminal=terminal))
            assert type(watcher(name, title="t", total=3)) is expected

    def test_a_dumb_terminal_gets_plain_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watchers, "StoppingConsole", lambda **_: console(terminal=True, kind="dumb"))
        assert type(watcher("auto", title="t", total=3)) is Plain

    @pytest.mark.parametrize("name", ["plain", "quiet", "auto"])
    def test_messages_go_to_stderr(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        watch = watcher(name, title="t", total=3)
        report_run(watch)
        watch.close()
        out, err = capsys.readouterr()
        assert out == ""
        assert "note: 3 of 9 prompts [dropped]\n" in err


@pytest.mark.parametrize(
    ("name", "kind"), [("auto", PhaseBars), ("plain", PhaseBars), ("json", PhaseBars), ("quiet", Quiet)]
)
def test_the_kind_for_a_command_without_steps(name: str, kind: type) -> None:
    assert type(progress(name)) is kind


def test_a_reader_of_progress_that_leaves_ends_the_command_as_a_shell_says(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with monkeypatch.context() as patch, os.fdopen(writing, "w") as stream:
        patch.setattr(sys, "stderr", stream)
        with pytest.raises(BrokenPipeError):
            progress("plain").note("it goes on")
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)  # closing it writes once more
