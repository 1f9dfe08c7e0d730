"""display.answer: what stands on the terminal at the end of a sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlhf_cli.display.answer import show_answer
from rlhf_cli.sweep.answer import answer
from rlhf_cli.sweep.record import Ending, SweepRecord, Trial
from tests.unit.sweep.made import two_by_two, write_trial

HOSTILE = "\x1b[2J\x07 one\ntwo [red]x[/red] [/x]"


def shown(sweep: SweepRecord, capsys: pytest.CaptureFixture[str], display: str = "auto", page: bool = True) -> str:
    show_answer(answer(sweep), display, sweep.folder / "report.html" if page else None)
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_eighty_columns_are_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seeds: tuple[int, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = shown(two_by_two(tmp_path, seeds=seeds), capsys)
    rows = [line for line in text.splitlines() if line.startswith("│")]
    marks = [row[1:7].strip() for row in rows if row[1:7].strip()]
    assert marks == ["1*", "→ 2*", "3", "4*"]
    assert all(len(line) <= 80 for line in text.splitlines() if not line.startswith(("Its run", "Report")))
    assert "0.425 ± 0.064" in text or seeds == (0,)
    assert ("2/2" in text) == (seeds == (0, 1))
    assert "length" not in text
    assert "Recommended: point 2 (beta=0.1, temperature=1)" in text
    assert all(one in text for one in ("#3", "1x", "x4", "+2"))  # the points by their numbers
    assert f"Report {tmp_path / 'report.html'}" in text
    assert str(tmp_path / "beta=0.1,temperature=1") in text.split("Its run")[1]


def test_wide_terminals_have_the_length(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    assert "8.0 ± 0.0" in shown(two_by_two(tmp_path), capsys)


def test_failures_have_a_line_each_and_nothing_drives_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trial(tmp_path / "a", [0.1, 0.2, 0.3, 0.4], 1.0)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "log.txt").write_text("")
    Ending(4, HOSTILE).write(tmp_path / "b")
    sweep = SweepRecord(tmp_path, HOSTILE, (Trial("a", {"k": HOSTILE}), Trial("b", {"k": "2"})))
    text = shown(sweep, capsys, page=False)
    assert not {"\x1b", "\x07"} & set(text)
    (line,) = (line for line in text.splitlines() if line.startswith("left out"))
    assert line == f"left out: k=2: failed: ·[2J· one two [red]x[/red] [/x]; its log: {tmp_path / 'b' / 'log.txt'}"
    assert "Report" not in text


def test_what_was_never_evaluated_has_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = two_by_two(tmp_path)
    for trial in sweep.trials:
        (sweep.path(trial) / "evaluations.jsonl").write_text("")
    text = shown(sweep, capsys)
    assert "never evaluated: 8 of the trials (evaluate.every=2)" in text
    assert "left out" not in text
    assert "No trial is finished and evaluated." in text


def test_json_is_one_object_and_quiet_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = two_by_two(tmp_path)
    found = json.loads(shown(sweep, capsys, "json"), parse_constant=lambda name: pytest.fail(name))
    assert (found["recommended"], found["folder"]) == (2, str(tmp_path))
    assert shown(sweep, capsys, "quiet") == ""
