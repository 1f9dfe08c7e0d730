"""Changes on disk that readers see whole."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from rlhf_cli.errors import EXIT_DISK, UserError
from rlhf_cli.runs.disk import DISK, check_parent, replace_file, scratch_beside
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
        JsonlLog(tmp_path / "log.jsonl").write({"step": 1})
    assert mine.read_text() == "precious"


def test_a_small_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "latest"
    for text in ("one\n", "zwei, größer\n"):
        replace_file(file, text)
        assert file.read_text(encoding="utf-8") == text
        assert [path.name for path in tmp_path.iterdir()] == ["latest"]


def test_a_folder_is_made_by_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with scratch_beside(path) as first:
        (first / "file").write_text("mine")
        with pytest.raises(UserError, match="another process is writing this"), scratch_beside(path):
            pass
        assert (first / "file").read_text() == "mine"
        DISK.rename(first, path)
        with scratch_beside(path) as second:  # the first has its own name now
            assert not list(second.iterdir())
            (second / "file").write_text("another")
        assert not second.exists()
    assert [file.read_text() for file in path.iterdir()] == ["mine"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_done_later_is_not_removed_with_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with scratch_beside(path) as first:
        DISK.rename(first, path)
        later = scratch_beside(path)
        scratch = later.__enter__()
    assert scratch.is_dir()
    later.__exit__(None, None, None)
    assert not scratch.exists()


def test_what_a_killed_process_left_is_removed_and_no_link_is_followed(tmp_path: Path) -> None:
    mine, left = tmp_path / "mine", tmp_path / ".out.new"
    (left / "inner").mkdir(parents=True)
    (left / "inner" / "file").touch()
    mine.mkdir()
    (mine / "file").touch()
    (left / "link").symlink_to(mine)
    with scratch_beside(tmp_path / "out") as scratch:
        assert not list(scratch.iterdir())
    assert [path.name for path in mine.iterdir()] == ["file"]
    left.symlink_to(mine)
    with pytest.raises(OSError, match="out"), scratch_beside(tmp_path / "out"):
        pass
    assert [path.name for path in mine.iterdir()] == ["file"]


def test_a_folder_that_gets_its_name_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real, tries = tmp_path / "out", fcntl.flock, list[int]()

    def flock(handle: int, how: int) -> None:
        tries.append(handle)
        if len(tries) == 1:
            DISK.rename(tmp_path / ".out.new", path)
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with scratch_beside(path) as scratch:
        (scratch / "file").touch()
    assert len(tries) == 2
    assert (list(path.iterdir()), list(tmp_path.iterdir())) == ([], [path])


def test_a_folder_that_cannot_be_removed_hides_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise OSError("refused")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(KeyError), scratch_beside(tmp_path / "out"):
        raise KeyError


def test_others_may_read_a_file_but_not_run_it(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        replace_file(tmp_path / "file", "text")
    finally:
        os.umask(umask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_the_folder_of_a_file_is_not_made(tmp_path: Path) -> None:
    check_parent(tmp_path / "file")
    with pytest.raises(UserError) as caught:
        check_parent(tmp_path / "none" / "file")
    assert caught.value.line() == f"no such folder ({tmp_path / 'none'}); fix: make it, or name another path"
    assert caught.value.exit_code == EXIT_DISK
