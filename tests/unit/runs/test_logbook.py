"""What a run writes down: lines that can be cut back to a checkpoint."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rlhf_cli.runs.json_files import content_of, finite
from rlhf_cli.runs.logbook import JsonlLog, Logbook, Mark, cut_back, drop_half_line
from rlhf_cli.runs.sinks import Curves
from tests.unit.support import rollout_of, scored_of


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


def test_lines_are_put_on_disk_where_there_are_any(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    log = JsonlLog(file)
    log.sync()
    assert not file.exists()
    log.write({"step": 1})
    log.sync()
    log.close()
    assert synced == [file.stat().st_ino]
    JsonlLog(file).close()


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


def test_the_mark_of_nothing_is_that_of_an_empty_file_and_there_is_none(file: Path) -> None:
    assert written(file) == Mark()
    assert not file.exists()


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


@pytest.mark.parametrize(
    ("before", "after"), [(None, None), (b"", b""), (b"a", b""), (b"a\n", b"a\n"), (b"a\nb", b"a\n"), (b"\nb", b"\n")]
)
def test_half_a_line_that_a_kill_left_is_cut_off(before: bytes | None, after: bytes | None, file: Path) -> None:
    if before is not None:
        file.write_bytes(before)
    drop_half_line(file)
    assert (file.read_bytes() if file.exists() else None) == after


def test_half_a_line_is_cut_off_no_file_elsewhere(file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    file.symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic links"):
        drop_half_line(file)
    assert (tmp_path / "mine").read_text() == "precious"


class TestLogbook:
    """One line a step in each file."""

    @pytest.fixture
    def logbook(self, tmp_path: Path) -> Iterator[Logbook]:
        logbook = Logbook(tmp_path, Curves((), tmp_path, 0, {}, lambda note: None))
        yield logbook
        logbook.close()

    def test_metrics_and_evaluations(self, logbook: Logbook, tmp_path: Path) -> None:
        logbook.metrics(3, {"reward/mean": 0.5})
        logbook.evaluation({"step": 3, "texts": ["é"]})
        assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 3, "reward/mean": 0.5}\n'
        assert (tmp_path / "evaluations.jsonl").read_text() == '{"step": 3, "texts": ["é"]}\n'
        lengths = {name: mark.size for name, mark in logbook.marks().items()}
        assert lengths == {"metrics": 32, "timings": 0, "samples": 0, "evaluations": 29}

    @pytest.mark.parametrize(("count", "written"), [(0, 0), (1, 1), (2, 2), (5, 2)])
    def test_the_first_completions(self, count: int, written: int, logbook: Logbook, tmp_path: Path) -> None:
        rollout, kl = rollout_of([[1, 1], [1, 0]], truncated=[True, False]), torch.tensor([[0.5, 1.0], [0.25, 0.0]])
        logbook.samples(7, scored_of(rollout, [2.0, -0.5], exact_kl=kl), count)
        rows = [json.loads(line) for line in content_of(tmp_path / "samples.jsonl").splitlines()]
        first = {"prompt": "prompt 0", "completion": "text 0", "score": 2.0, "kl": 1.5, "truncated": True}
        second = {"prompt": "prompt 1", "completion": "text 1", "score": -0.5, "kl": 0.25, "truncated": False}
        assert rows == [{"step": 7} | row for row in (first, second)][:written]

    @pytest.mark.parametrize(
        ("seconds", "tokens", "speed"),
        [
            ({"step": 2.0, "evaluation": 0.25, "checkpoint": 0.25}, 100, 66.7),  # 100 / 1.5
            ({"step": 0.75, "checkpoint": 0.25}, 3, 6.0),
            ({"step": 0.25, "checkpoint": 0.25}, 3, 3e9),
            ({"step": 0.25, "checkpoint": 0.0}, 0, None),
        ],
    )
    def test_the_speed_is_that_of_training(
        self, seconds: dict[str, float], tokens: int, speed: float | None, logbook: Logbook, tmp_path: Path
    ) -> None:
        timings = logbook.timings(4, seconds | {"rollout": 0.123456}, tokens)
        assert timings.pop("time/rollout_s") == 0.1235
        assert timings.pop("tokens_per_s", None) == speed
        assert timings == {f"time/{name}_s": value for name, value in seconds.items()}
        (row,) = map(json.loads, (tmp_path / "timings.jsonl").read_text().splitlines())
        assert (row["step"], row["time/rollout_s"], row.get("tokens_per_s")) == (4, 0.1235, speed)

    def test_the_retries_of_a_reward_are_in_the_file_alone(self, logbook: Logbook, tmp_path: Path) -> None:
        seconds = {"step": 0.5, "checkpoint": 0.0}
        returned = [logbook.timings(step, seconds, 0, retries) for step, retries in enumerate((None, 0, 2))]
        assert returned == [{"time/step_s": 0.5, "time/checkpoint_s": 0.0}] * 3
        rows = [json.loads(line) for line in (tmp_path / "timings.jsonl").read_text().splitlines()]
        assert [row.get("reward/retries", "none") for row in rows] == ["none", 0, 2]
