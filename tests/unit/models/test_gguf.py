"""models.gguf: the conversion itself is replaced by something quick."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

from rlhf_cli.errors import EXIT_DISK, UserError
from rlhf_cli.models.gguf import _is_coarse, _say_bfloat16, convert


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
    assert first == second == cache / "models" / "Model-4b71668b0e7c872b"  # sha256 of b"weights2"
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


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [(("Q4_0", "Q8_0"), True), (("BF16",), True), (("Q4_0", "F16"), False), (("F32",), False)],
    ids=str,
)
def test_bfloat16_is_the_own_type_of_a_file_that_is_no_finer(
    kinds: tuple[str, ...], expected: bool, tmp_path: Path
) -> None:
    writer = GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("norm", np.ones(32, dtype=np.float32))  # a vector: no product's weight
    for number, kind in enumerate(kinds):
        raw = GGMLQuantizationType[kind]
        writer.add_tensor(f"{number}", quantize(np.ones((2, 32), dtype=np.float32), raw), raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert _is_coarse(tmp_path / "model.gguf") is expected


def test_a_config_says_bfloat16_and_keeps_the_rest(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"dtype": "float32", "hidden_size": 8}')
    _say_bfloat16(tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text()) == {"dtype": "bfloat16", "hidden_size": 8}
