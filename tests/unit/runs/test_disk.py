"""Changes on disk that readers see whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rlhf_cli.runs.disk import DISK, replace_file
from rlhf_cli.runs.logbook import JsonlLog


def test_sync_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        DISK.sync(path)
    assert synced == [tmp_path.stat().st_ino, (tmp_path / "file").stat().st_ino]


def test_nothing_is_written_where_a_link_leads(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("precious")
    (tmp_path / ".latest.tmp").symlink_to(mine)
    (tmp_path / "log.jsonl").symlink_to(mine)
    with pytest.raises(OSError, match="symbolic links"):
        replace_file(tmp_path / "latest", "step-00000001\n")
    with pytest.raises(OSError, match="symbolic links"):
        JsonlLog(tmp_path / "log.jsonl")
    assert mine.read_text() == "precious"


def test_a_small_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "latest"
    for text in ("one\n", "zwei, größer\n"):
        replace_file(file, text)
        assert file.read_text(encoding="utf-8") == text
        assert [path.name for path in tmp_path.iterdir()] == ["latest"]
