"""Checkpoints are whole or absent, and every way of being bad is noticed and named."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from rlhf_cli.runs.checkpoint import (
    MANIFEST,
    abandon,
    find_newest,
    list_checkpoints,
    prune,
    publish,
    step_of,
    why_invalid,
)
from rlhf_cli.runs.disk import Disk

files = {"adapter.bin": bytes(range(256)), "state.json": b"{}\n"}
"""What these tests put into a checkpoint."""


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


class TestPublish:
    """Write aside, then rename."""

    def test_a_checkpoint_holds_the_files_and_their_manifest(self, tmp_path: Path) -> None:
        root = tmp_path / "checkpoints"
        folder = publish(root, 7, files)
        assert folder == root / "step-00000007"
        assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, "adapter.bin", "state.json"]
        assert why_invalid(folder) is None
        assert sorted(path.name for path in root.iterdir()) == ["step-00000007"]

    def test_the_manifest_lists_size_and_sha256_in_the_same_bytes_every_time(self, tmp_path: Path) -> None:
        expected = """\
            {
              "bound": {
                "config.json": "ab"
              },
              "files": {
                "adapter.bin": {
                  "sha256": "40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880",
                  "size": 256
                },
                "state.json": {
                  "sha256": "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356",
                  "size": 3
                }
              },
              "schema": 1,
              "step": 7
            }
            """
        folder = publish(tmp_path, 7, files, bound={"config.json": "ab"})
        assert (folder / MANIFEST).read_text() == dedent(expected)
        assert "bound" not in json.loads((publish(tmp_path, 8, files) / MANIFEST).read_text())

    @pytest.mark.parametrize("operation", ["mkdir", "write", "sync", "rename"])
    def test_a_disk_that_refuses_leaves_nothing(
        self, operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(tmp_path, 1, files)
        before = contents(tmp_path)

        def full(*given: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        disk = Disk()
        monkeypatch.setattr(disk, operation, full)
        with pytest.raises(OSError, match="No space left"):
            publish(tmp_path, 2, files, disk)
        assert contents(tmp_path) == before
        assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000001"]
        assert not list(tmp_path.glob(".tmp-*"))

    def test_a_valid_checkpoint_is_not_written_again(self, tmp_path: Path) -> None:
        folder = publish(tmp_path, 3, files)
        before = contents(tmp_path)
        assert publish(tmp_path, 3, {"other": b""}) == folder
        assert contents(tmp_path) == before

    def test_an_invalid_one_is_moved_aside_not_overwritten(self, tmp_path: Path) -> None:
        for number in range(3):
            folder = publish(tmp_path, 3, files)
            assert why_invalid(folder) is None
            (folder / "state.json").write_text(f"broken {number}")
        publish(tmp_path, 3, files)
        aside = sorted(tmp_path.glob(".bad-*"))
        assert [path.name for path in aside] == [".bad-step-00000003", ".bad-step-00000003-1", ".bad-step-00000003-2"]
        assert [(path / "state.json").read_text() for path in aside] == ["broken 0", "broken 1", "broken 2"]
        assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000003"]

    def test_everything_is_synced_before_it_gets_its_name(self, tmp_path: Path) -> None:
        done: list[tuple[str, str]] = []

        class Recording(Disk):
            def write(self, file: Path, content: bytes) -> None:
                done.append(("write", file.name))
                super().write(file, content)

            def sync(self, path: Path) -> None:
                done.append(("sync", path.name))
                super().sync(path)

            def rename(self, old: Path, new: Path) -> None:
                done.append(("rename", new.name))
                super().rename(old, new)

        publish(tmp_path, 5, files, Recording())
        written = ["adapter.bin", "state.json", MANIFEST]
        assert done == [
            *((operation, name) for name in written for operation in ("write", "sync")),
            ("sync", ".tmp-step-00000005"),
            ("rename", "step-00000005"),
            ("sync", tmp_path.name),
        ]


class TestVerify:
    """Every way in which a checkpoint can be bad, by name."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return publish(tmp_path, 4, files)

    def test_a_good_one_is_good(self, folder: Path) -> None:
        assert why_invalid(folder) is None

    def test_a_missing_file(self, folder: Path) -> None:
        (folder / "adapter.bin").unlink()
        assert why_invalid(folder) == "adapter.bin: missing"

    @pytest.mark.parametrize("size", [0, 1, 255])
    def test_a_truncated_file(self, folder: Path, size: int) -> None:
        (folder / "adapter.bin").write_bytes(bytes(range(256))[:size])
        assert why_invalid(folder) == f"adapter.bin: {size} bytes, should be 256"

    @pytest.mark.parametrize("position", [0, 100, 255])
    @pytest.mark.parametrize("bit", [0, 7])
    def test_a_flipped_bit(self, folder: Path, position: int, bit: int) -> None:
        content = bytearray(range(256))
        content[position] ^= 1 << bit
        (folder / "adapter.bin").write_bytes(content)
        assert why_invalid(folder) == "adapter.bin: sha256 mismatch"

    def test_a_manifest_of_another_step(self, folder: Path) -> None:
        moved = folder.rename(folder.with_name("step-00000005"))
        assert why_invalid(moved) == "MANIFEST.json is of step 4"

    def test_a_missing_manifest(self, folder: Path) -> None:
        (folder / MANIFEST).unlink()
        assert why_invalid(folder) == "MANIFEST.json: missing"

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"\xff\xfe",
            b"[]",
            b"3",
            b'"x"',
            b"null",
            b"{}",
            b'{"step": 4}',
            b'{"step": 4, "files": []}',
            b'{"step": "4", "files": {}}',
            b'{"step": 4, "files": {"state.json": 3}}',
            b'{"step": 4, "files": {"state.json": {}}}',
            b'{"step": 4, "files": null}',
        ],
    )
    def test_a_manifest_that_makes_no_sense(self, folder: Path, content: bytes) -> None:
        (folder / MANIFEST).write_bytes(content)
        assert why_invalid(folder) == "MANIFEST.json: not readable"

    def test_a_symlink_is_not_followed(self, folder: Path, tmp_path: Path) -> None:
        (folder / "adapter.bin").rename(tmp_path / "elsewhere")
        (folder / "adapter.bin").symlink_to(tmp_path / "elsewhere")
        assert why_invalid(folder) == "adapter.bin: missing"
        (folder / MANIFEST).rename(tmp_path / "manifest")
        (folder / MANIFEST).symlink_to(tmp_path / "manifest")
        assert why_invalid(folder) == "MANIFEST.json: missing"

    def test_a_folder_in_place_of_a_file(self, folder: Path) -> None:
        (folder / "adapter.bin").unlink()
        (folder / "adapter.bin").mkdir()
        assert why_invalid(folder) == "adapter.bin: missing"

    @pytest.mark.parametrize("name", ["../state.json", "/etc/passwd", "a/b"])
    def test_a_path_in_the_manifest(self, folder: Path, name: str) -> None:
        edit_manifest(folder, lambda manifest: manifest["files"].update({name: {"size": 3, "sha256": "x"}}))
        assert why_invalid(folder) == f"{name}: not a plain file name"

    def test_dots_in_the_manifest(self, folder: Path) -> None:
        edit_manifest(folder, lambda manifest: manifest["files"].update({"..": {"size": 3, "sha256": "x"}}))
        assert why_invalid(folder) == "..: missing"

    def test_a_file_that_is_not_in_the_manifest_is_nobodys_business(self, folder: Path) -> None:
        (folder / "notes.txt").write_text("mine")
        assert why_invalid(folder) is None


class TestFinding:
    """Newest first, valid or not."""

    def test_they_are_listed_newest_first_and_nothing_else_is(self, tmp_path: Path) -> None:
        for step in (2, 10, 1):
            publish(tmp_path, step, files)
        for name in ("step-1", "step-000000001", "step-00000009.bak", ".tmp-step-00000004-x", ".bad-step-00000003"):
            (tmp_path / name).mkdir()
        assert [step_of(folder) for folder in list_checkpoints(tmp_path)] == [10, 2, 1]

    def test_the_newest_valid_one_is_found_and_what_was_skipped_is_said(self, tmp_path: Path) -> None:
        folders = {step: publish(tmp_path, step, files) for step in (1, 2, 3, 4)}
        (folders[4] / MANIFEST).unlink()
        (folders[3] / "state.json").write_text("[]\n")
        found = find_newest(tmp_path)
        assert found.folder == folders[2]
        assert found.skipped == ((folders[4], "MANIFEST.json: missing"), (folders[3], "state.json: sha256 mismatch"))

    def test_latest_is_never_trusted(self, tmp_path: Path) -> None:
        publish(tmp_path, 1, files)
        newest = publish(tmp_path, 2, files)
        (tmp_path / "latest").write_text("step-00000001\n")
        assert find_newest(tmp_path).folder == newest

    def test_where_there_is_nothing_nothing_is_found(self, tmp_path: Path) -> None:
        assert find_newest(tmp_path).folder is None
        assert find_newest(tmp_path / "none").skipped == ()

    def test_step_of_refuses_another_folder(self) -> None:
        with pytest.raises(ValueError, match=r"^adapter is no checkpoint$"):
            step_of(Path("adapter"))


class TestPrune:
    """Keep the newest valid ones; never touch what is newer."""

    @pytest.mark.parametrize("keep", [1, 2, 3, 9])
    def test_the_newest_are_kept(self, tmp_path: Path, keep: int) -> None:
        for step in range(1, 5):
            publish(tmp_path, step, files)
        prune(tmp_path, keep)
        assert [step_of(folder) for folder in list_checkpoints(tmp_path)] == [4, 3, 2, 1][:keep]

    def test_an_invalid_one_neither_counts_nor_goes(self, tmp_path: Path) -> None:
        folders = {step: publish(tmp_path, step, files) for step in range(1, 6)}
        for step in (5, 3):
            (folders[step] / "state.json").unlink()
        prune(tmp_path, 1)
        assert [step_of(folder) for folder in list_checkpoints(tmp_path)] == [5, 4, 3]

    def test_with_nothing_valid_nothing_goes(self, tmp_path: Path) -> None:
        (publish(tmp_path, 1, files) / MANIFEST).unlink()
        prune(tmp_path, 1)
        assert [step_of(folder) for folder in list_checkpoints(tmp_path)] == [1]

    def test_what_killed_runs_left_behind_goes(self, tmp_path: Path) -> None:
        publish(tmp_path, 1, files)
        for name in (".tmp-step-00000002-abc", ".old-step-00000000"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "half").write_text("x")
        (tmp_path / ".bad-step-00000002").mkdir()
        prune(tmp_path, 1)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".bad-step-00000002", "step-00000001"]

    def test_a_pinned_one_stays_beside_them(self, tmp_path: Path) -> None:
        for step in range(1, 6):
            publish(tmp_path, step, files)
        prune(tmp_path, 2, pinned=(2,))
        assert [step_of(folder) for folder in list_checkpoints(tmp_path)] == [5, 4, 2]

    def test_one_that_goes_has_another_name_at_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A kill while its files are deleted leaves no half checkpoint, and the next save takes the rest away."""
        for step in (1, 2):
            publish(tmp_path, step, files)

        def killed(folder: Path) -> None:
            (folder / "state.json").unlink()
            raise OSError(errno.EIO, "Input/output error")

        disk = Disk()
        monkeypatch.setattr(disk, "remove", killed)
        with pytest.raises(OSError, match="Input/output error"):
            prune(tmp_path, 1, disk=disk)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".old-step-00000001", "step-00000002"]
        prune(tmp_path, 1)
        assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]


def test_what_only_looks_like_a_checkpoint_is_passed_over(tmp_path: Path) -> None:
    good = publish(tmp_path, 1, files)
    (tmp_path / "step-00000002").write_text("a file")
    (tmp_path / "step-00000003" / MANIFEST).mkdir(parents=True)
    empty = publish(tmp_path, 4, {})
    found = find_newest(tmp_path)
    assert found.folder == good
    assert [folder.name for folder, _ in found.skipped] == [empty.name, "step-00000003", "step-00000002"]


def test_what_a_run_goes_back_behind_is_moved_aside(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        publish(tmp_path, step, files)
    abandon(tmp_path, 1)
    assert [step_of(folder) for folder in list_checkpoints(tmp_path)] == [1]
    assert len(list(tmp_path.glob(".abandoned-step-0000000[23]"))) == 2
