"""What a run writes down: lines that can be cut back to a checkpoint."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest

from rlhf_cli.runs.json_files import finite
from rlhf_cli.runs.logbook import JsonlLog, Mark, cut_back


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def written(file: Path, *steps: int) -> Mark:
    log = JsonlLog(file)
    for step in steps:
        log.write({"step": step})
    log.close()
    return log.mark()


def steps_in(file: Path) -> list[int]:
    return [json.loads(line)["step"] for line in file.read_text().splitlines()]


def test_a_line_is_on_disk_as_soon_as_it_is_written(file: Path) -> None:
    log = JsonlLog(file)
    log.write({"step": 1, "text": "é", "values": [0.5, None, True]})
    assert file.read_text(encoding="utf-8") == '{"step": 1, "text": "é", "values": [0.5, null, true]}\n'
    log.close()


def test_an_existing_file_is_continued(file: Path) -> None:
    written(file, 1, 2)
    written(file, 3)
    assert steps_in(file) == [1, 2, 3]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_cannot_hold_become_null_at_any_depth(file: Path, value: float) -> None:
    log = JsonlLog(file)
    log.write({"a": value, "b": [1.0, value], "c": {"d": (value, "x")}})
    log.close()
    assert json.loads(file.read_text()) == {"a": None, "b": [1.0, None], "c": {"d": [None, "x"]}}


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-300, -2.5e17, 5e-324, 1.7976931348623157e308, -0.0])
def test_floats_come_back_bit_for_bit(file: Path, value: float) -> None:
    log = JsonlLog(file)
    log.write({"value": value})
    log.close()
    found = json.loads(file.read_text())["value"]
    assert found == value
    assert math.copysign(1, found) == math.copysign(1, value)


def test_text_that_could_break_lines_stays_on_its_line(file: Path) -> None:
    log = JsonlLog(file)
    log.write({"text": "one\ntwo\r\x00\x1b[2J\u2028\u2029\u0085"})
    log.close()
    assert file.read_bytes().count(b"\n") == 1
    assert json.loads(file.read_bytes())["text"] == "one\ntwo\r\x00\x1b[2J\u2028\u2029\u0085"


def test_finite_leaves_everything_else_alone() -> None:
    value = {"a": 1, "b": "nan", "c": [True, None, 2.5]}
    assert finite(value) == value


def test_the_mark_is_the_size_and_the_hash_of_all_that_was_written(file: Path) -> None:
    written(file, 1)
    mark = written(file, 2, 3)  # the second log continues the first
    content = file.read_bytes()
    assert mark == Mark(len(content), hashlib.sha256(content).hexdigest())


def test_the_mark_of_nothing_is_that_of_an_empty_file(file: Path) -> None:
    assert written(file) == Mark()


class TestCutBack:
    """What a resumed run does to the files it finds."""

    def test_what_was_written_after_the_mark_goes(self, file: Path) -> None:
        mark = written(file, 1, 2)
        written(file, 3, 4)
        assert cut_back(file, mark) is None
        assert steps_in(file) == [1, 2]
        assert [path.name for path in file.parent.iterdir()] == ["metrics.jsonl"]

    def test_a_torn_last_line_goes(self, file: Path) -> None:
        mark = written(file, 1, 2)
        with file.open("ab") as handle:
            handle.write(b'{"step": 3, "rew')
        assert cut_back(file, mark) is None
        assert steps_in(file) == [1, 2]

    def test_a_file_that_ends_at_the_mark_is_left_alone(self, file: Path) -> None:
        mark = written(file, 1, 2)
        assert cut_back(file, mark) is None
        assert steps_in(file) == [1, 2]

    def test_a_file_that_is_not_there_is_fine_where_nothing_was_written(self, file: Path) -> None:
        assert cut_back(file, Mark()) is None
        assert not file.exists()

    def test_the_empty_mark_empties_the_file(self, file: Path) -> None:
        written(file, 1)
        assert cut_back(file, Mark()) is None
        assert file.read_bytes() == b""

    def test_a_changed_beginning_is_kept_whole_beside_the_file(self, file: Path) -> None:
        mark = written(file, 1, 2)
        written(file, 3)
        changed = file.read_bytes().replace(b'"step": 1', b'"step": 9')
        file.write_bytes(changed)
        orphan = cut_back(file, mark)
        assert orphan == file.parent / "metrics.orphan-1.jsonl"
        assert orphan.read_bytes() == changed
        assert file.stat().st_size == mark.size

    def test_a_lost_ending_is_noticed(self, file: Path) -> None:
        mark = written(file, 1, 2)
        file.write_bytes(file.read_bytes()[:-5])
        orphan = cut_back(file, mark)
        assert orphan is not None

    def test_a_lost_file_is_noticed(self, file: Path) -> None:
        mark = written(file, 1)
        file.unlink()
        assert cut_back(file, mark) == file.parent / "metrics.orphan-1.jsonl"

    def test_an_earlier_orphan_is_never_overwritten(self, file: Path) -> None:
        mark = written(file, 1)
        for number in (1, 2, 3):
            file.write_bytes(f"changed {number}".encode())
            orphan = cut_back(file, mark)
            assert orphan == file.parent / f"metrics.orphan-{number}.jsonl"
            assert orphan.read_bytes() == f"changed {number}".encode()
        assert (file.parent / "metrics.orphan-1.jsonl").read_bytes() == b"changed 1"


def test_half_a_line_that_a_power_cut_left_is_dropped(file: Path) -> None:
    mark = written(file, 1, 2, 3)
    file.write_bytes(file.read_bytes()[: mark.size - 4])
    assert cut_back(file, mark) is not None  # the file is not what the checkpoint saw: a copy is kept
    assert steps_in(file) == [1, 2]
