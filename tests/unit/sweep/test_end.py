"""What a sweep does at its end, whoever ran its trials."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from rlhf_cli.commands.parts.sweeping import open_sweep
from rlhf_cli.errors import Stopped
from tests.unit.sweep.made import two_by_two


def test_trials_that_another_launcher_ran_come_to_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_sweep(two_by_two(tmp_path)):
        pass
    assert "Recommended: point 2" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert capsys.readouterr() == ("", "")


def test_a_sweep_that_is_stopped_has_none(tmp_path: Path) -> None:
    with pytest.raises(Stopped), open_sweep(two_by_two(tmp_path)):
        raise Stopped("Ctrl-C")
    assert not (tmp_path / "report.html").exists()


def test_a_page_that_cannot_be_written_is_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.html" / "in the way").mkdir(parents=True)
    with open_sweep(two_by_two(tmp_path)):
        pass
    assert capsys.readouterr().err.startswith("note: a folder, and no file for a page (")


def test_a_full_disk_is_named_with_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path, text: str, encoding: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    sweep = two_by_two(tmp_path)
    monkeypatch.setattr(Path, "write_text", full)
    with open_sweep(sweep):
        pass
    page = tmp_path / "report.html"
    said = f"note: the disk refuses: No space left on device ({page}); fix: free space or rights\n"
    assert capsys.readouterr().err.startswith(said)


def test_a_page_of_others_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.html").write_text("<p>mine</p>")
    with open_sweep(two_by_two(tmp_path)):
        pass
    assert (tmp_path / "report.html").read_text() == "<p>mine</p>"
    assert capsys.readouterr().err.startswith("note: there is a file of this name that is no page of rlhf (")
