"""commands.parts.stage: a scene on a terminal that can move, and on one that cannot."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from rlhf_cli.charts.pictures import Chart, Series
from rlhf_cli.commands.parts import stage
from rlhf_cli.demo.scene import Scene

PICTURE = Chart("t", "x", "y", [Series("a", [0.0, 1.0], [0.0, 1.0])])
GROWING = tuple((Chart(f"frame {i}", "x", "y", PICTURE.series),) for i in range(3))
SCENE = Scene("heading", ("E[r] in words",), "J = E[r]", "a/file.py", (PICTURE,), ("found [/b]",), GROWING)


def shown(moving: bool, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(stage, "FRAME_S", 0.0)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = io.StringIO()
    stage.show(SCENE, Console(file=out, force_terminal=terminal, width=60, height=24), moving)
    return out.getvalue()


def test_without_a_terminal_there_is_no_control_code(monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(False, False, monkeypatch)
    assert "\x1b" not in out
    parts = ["heading", "E[r] in words", "J = E[r]", "a/file.py", "** a", "found [/b]"]
    assert sorted(parts, key=out.index) == parts
    assert "frame" not in out


def test_on_a_terminal_the_frames_come_first_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(True, True, monkeypatch)
    assert [int(i) for i in re.findall(r"frame (\d)", out)][:3] == [0, 1, 2]
    assert "\x1b[1A" in out  # taken down again
    assert out.index("frame 2") < out.index("found")
    assert re.search("[\u2801-\u28ff]", out)
