"""models.gguf: the conversion itself is replaced by something quick."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_cli.errors import EXIT_DISK, UserError
from rlhf_cli.models.gguf import convert


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rlhf-cli"


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    (tmp_path / "Model.gguf").write_bytes(b"weights")
    return tmp_path / "Model.gguf"


def test_a_file_is_converted_once(cache: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []

    def write(file: Path, folder: Path) -> None:
        calls.append(file)
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr("rlhf_cli.models.gguf._write", write)
    first, second = convert(gguf), convert(gguf)
    assert first == second == cache / "models" / "Model-9a129038d9a00aed"  # sha256 of b"weights"
    assert [path.name for path in first.iterdir()] == ["config.json"]
    assert calls == [gguf]


def test_another_content_gets_another_folder(cache: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf_cli.models.gguf._write", lambda file, folder: None)
    first = convert(gguf)
    gguf.write_bytes(b"other weights")
    assert convert(gguf) != first


def test_a_failed_conversion_leaves_no_folder(cache: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(file: Path, folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("stop")

    monkeypatch.setattr("rlhf_cli.models.gguf._write", write)
    with pytest.raises(RuntimeError, match="stop"):
        convert(gguf)
    assert [path.name for path in (cache / "models").iterdir() if path.is_dir()] == []


def test_a_cache_that_cannot_be_written_is_a_user_error(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"^the model cache cannot be written: ") as caught:
        convert(gguf)
    assert caught.value.exit_code == EXIT_DISK == 6
