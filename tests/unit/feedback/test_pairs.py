"""feedback.pairs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.feedback.pairs import read_pairs, with_ids, write_rows
from rlhf_cli.feedback.preference import Row
from tests.unit.feedback.samples import file_of


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [Row("p\u2028", "x", "y", None), Row("q", "é", "", (1.0, 0.5))]
    assert read_pairs(file_of(tmp_path, rows)) == with_ids(rows)


def test_the_bytes_of_a_file_and_the_ids_of_its_pairs_stay_as_votes_name_them(tmp_path: Path) -> None:
    file = file_of(tmp_path, [Row("p", "é", "y", (1.0, 0.5))] * 3)
    row = '{"prompt": "p", "a": "é", "b": "y", "rewards": [1.0, 0.5]}\n'
    assert file.read_text(encoding="utf-8") == row * 3
    known = [hashlib.sha256(f'["p", "\\u00e9", "y", {number}]'.encode()).hexdigest()[:16] for number in range(3)]
    assert [pair.id for pair in read_pairs(file)] == known


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    file = file_of(tmp_path, [Row("p", "x", "y", None)])
    before = file.read_bytes()
    write_rows(file, [Row("p", "x", "z", None)])
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_an_id_follows_from_the_texts_and_tells_equal_rows_apart() -> None:
    row, other = Row("p", "x", "y", None), Row("p", "y", "x", None)
    first, second, third = with_ids([row, other, row])
    assert len({first.id, second.id, third.id}) == 3
    assert with_ids([row])[0].id == first.id == with_ids([Row("p", "x", "y", (1.0, 2.0))])[0].id


@pytest.mark.parametrize(
    ("a", "b", "same"), [("x", "x", True), ("x\n", " x", True), ("x", "X", False), ("", " ", True)]
)
def test_texts_that_nobody_could_tell_apart(a: str, b: str, same: bool) -> None:
    assert with_ids([Row("p", a, b, None)])[0].is_same is same


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "no pair in the file"),
        (b"\n \n", "no pair in the file"),
        (b"{\n", "not JSON"),
        (b"[1]\n", "not a JSON object"),
        (b"\xff\n", "not UTF-8 text"),
        (b'{"prompt": "p", "a": "x"}\n', "neither a and b"),
    ],
)
def test_a_file_that_holds_no_pairs_is_named(content: bytes, what: str, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(content)
    with pytest.raises(UserError, match=what) as caught:
        read_pairs(file)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", ["nowhere.jsonl", "/dev/null", "/proc/self/environ"])
def test_what_is_no_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        read_pairs(tmp_path / name)
