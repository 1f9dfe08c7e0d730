"""Changes on disk that readers see whole."""

from __future__ import annotations

from pathlib import Path

from rlhf_cli.runs.disk import replace_file


def test_a_small_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "latest"
    for text in ("one\n", "zwei, größer\n"):
        replace_file(file, text)
        assert file.read_text(encoding="utf-8") == text
        assert [path.name for path in tmp_path.iterdir()] == ["latest"]
