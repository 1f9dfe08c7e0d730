"""One file, or all that fit a pattern."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_cli.data.reading import read_source
from rlhf_cli.data.text import Text
from rlhf_cli.errors import EXIT_DATA, UserError
from tests.unit.support import data_fields


def texts_of(path: Path) -> list[tuple[str, str]]:
    found = read_source(Text.model_validate(data_fields(kind="text", path=str(path)))).rows
    return [(row.shown, row.where) for row in found]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("b.txt", "of b\n"), ("a.txt", "of a\n\n\ttoo \r\n"), ("x/y/c.txt", "of c"), ("a.md", "no")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    return tmp_path


def test_every_line_of_a_text_file_is_a_prompt(folder: Path) -> None:
    assert texts_of(folder / "a.txt") == [("of a", "a.txt:1"), ("\ttoo ", "a.txt:3")]


def test_a_pattern_means_all_files_in_the_order_of_their_names(folder: Path) -> None:
    assert texts_of(folder / "*.txt") == [("of a", "a.txt:1"), ("\ttoo ", "a.txt:3"), ("of b", "b.txt:1")]
    assert texts_of(folder / "[b-z].txt") == [("of b", "b.txt:1")]


def test_two_stars_mean_folders_in_folders(folder: Path) -> None:
    assert [where for _, where in texts_of(folder / "**/*.txt")] == ["a.txt:1", "a.txt:3", "b.txt:1", "x/y/c.txt:1"]


def test_a_file_of_that_very_name_is_no_pattern(folder: Path) -> None:
    (folder / "[ab].txt").write_text("itself\n")
    assert texts_of(folder / "[ab].txt") == [("itself", "[ab].txt:1")]


@pytest.mark.parametrize(
    ("name", "what", "fix"),
    [
        ("*.csv", "no file fits the pattern", "give a file by data.path="),
        ("c.txt", "no such prompt file", "did you mean b.txt?"),
        ("x", "a folder, not a prompt file", "name its files by a pattern, as FOLDER/*.jsonl"),
    ],
)
def test_no_file(folder: Path, name: str, what: str, fix: str) -> None:
    with pytest.raises(UserError) as caught:
        texts_of(folder / name)
    assert caught.value.line() == f"{what} ({folder / name}); fix: {fix}"
    assert caught.value.exit_code == EXIT_DATA


@pytest.mark.parametrize("key", ["path", "eval_path"])
def test_the_fix_names_the_setting(folder: Path, key: str) -> None:
    fields = data_fields(kind="text", path=str(folder / "a.txt")) | {key: str(folder / "*.csv")}
    with pytest.raises(UserError, match=f"give a file by data.{key}="):
        read_source(Text.model_validate(fields), held_out=True)


def test_a_pattern_does_not_reach_where_keys_are_kept(folder: Path) -> None:
    (folder / ".ssh").mkdir()
    (folder / ".ssh" / "id.txt").write_text("a key\n")
    with pytest.raises(UserError) as caught:
        texts_of(folder / ".ssh" / "*.txt")
    file = folder / ".ssh" / "id.txt"
    assert caught.value.line() == f"cannot be read: .ssh is where a program keeps keys or passwords ({file})"
