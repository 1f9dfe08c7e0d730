"""JSON files as bytes: what is written, and how much of a file is read."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from rlhf_cli.runs.json_files import append_json, read_content, read_last_lines, read_lines, read_object, write_json


def test_a_file_is_written_for_people(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"a": "é", "b": [math.nan]})
    assert file.read_text(encoding="utf-8") == '{\n  "a": "é",\n  "b": [\n    NaN\n  ]\n}\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, ""),
        ("", ""),
        ("\n", "\n"),
        ("{", "{\n"),  # the file ends in half a line
        ("{}\n", "{}\n"),
        ('{}\n{"a": 1', '{}\n{"a": 1\n'),
    ],
)
def test_a_line_is_added_on_a_line_of_its_own(before: str | None, after: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    if before is not None:
        file.write_text(before)
    append_json(file, {"a": "é", "b": math.inf})
    assert file.read_text(encoding="utf-8") == after + '{"a": "é", "b": null}\n'


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ("18446744073709551615", True),  # 2^64 - 1
        ("18446744073709551616", False),
        ("-18446744073709551615", True),
        ("-18446744073709551616", False),
        ("1.8446744073709552e19", True),
    ],
)
def test_a_whole_number_has_64_bits_at_any_depth(text: str, is_read: bool, tmp_path: Path) -> None:
    for form in ('{"a": %s}', '{"a": {"b": [0, %s]}}'):
        (tmp_path / "a.json").write_text(form % text)
        assert bool(read_object(tmp_path / "a.json")) == is_read


def test_a_file_of_more_than_16_mib_is_foreign(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(b'{"a": 1}'.ljust(2**24))
    assert read_object(file) == {"a": 1}
    file.write_bytes(b'{"a": 1}'.ljust(2**24 + 1))
    assert read_object(file) == {}


@pytest.mark.parametrize("size", [1, 2**17 - 1, 2**17, 2**17 + 1, 2**18])
def test_the_last_lines_are_those_of_the_last_128_kib(size: int, tmp_path: Path) -> None:
    content = (b"0123456789abcde\n" * 2**14)[-size:]
    (tmp_path / "a.jsonl").write_bytes(content)
    lines = read_last_lines(tmp_path / "a.jsonl")
    assert b"\n".join(reversed(lines)) == content[-(2**17) :]


def test_the_first_lines_are_those_of_the_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"one\ntwo\n")
    assert read_lines(tmp_path / "a.jsonl") == [b"one", b"two", b""]
    assert read_lines(tmp_path / "a.jsonl", 5) == [b"one", b"t"]
    assert read_lines(tmp_path / "none") == read_lines(tmp_path) == [b""]


def test_content_is_that_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    assert read_content(tmp_path / "file") == b"x"
    with pytest.raises(FileNotFoundError):
        read_content(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        read_content(tmp_path)
    with pytest.raises(OSError, match="neither a file nor a folder"):
        read_content(tmp_path / "pipe")
