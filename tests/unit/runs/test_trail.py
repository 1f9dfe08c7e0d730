"""Every file of a run, against the hashes that the run left of it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from rlhf_cli.runs.binding import CONFIGS, bind, write_config, write_record
from rlhf_cli.runs.checkpoint import publish
from rlhf_cli.runs.logbook import Mark
from rlhf_cli.runs.trail import find_changed

LINES = [b'{"step": 1}\n', b'{"step": 2}\n', b'{"step": 3}\n', b'{"step": 4}\n']
FILES = {"state.json": b"{}", "adapter_config.json": b"{}"}
RESULT = '{"task": "sft", "step": 4, "exported": 2}'


def mark_of(content: bytes) -> Mark:
    return Mark(len(content), hashlib.sha256(content).hexdigest())


Checkpoints = list[tuple[Path, Mapping[str, Mark]]]


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """The checkpoints of steps 4 and 2, newest first; the run ended with step 4 and exported the adapter of step 2."""
    write_record(tmp_path, {"seed": 0, CONFIGS: []})
    config = write_config(tmp_path, "{}\n")
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(LINES))
    (tmp_path / "result.json").write_text(RESULT)
    bind(tmp_path, "result.json")
    return [
        (
            publish(tmp_path / "checkpoints", step, FILES, bound={"config.json": config}),
            {"metrics": mark_of(b"".join(LINES[:step]))},
        )
        for step in (4, 2)
    ]


def test_nothing_of_a_run_is_changed(tmp_path: Path, checkpoints: Checkpoints) -> None:
    assert find_changed(tmp_path, checkpoints) == {}
    assert find_changed(tmp_path, ()) == {}
    shutil.rmtree(tmp_path / "checkpoints")  # a run that was killed before its first
    assert find_changed(tmp_path, ()) == {}


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("config.json", "{ }\n", "config.json is not what the run wrote"),
        ("result.json", RESULT + "\n", "result.json is not what the run wrote"),
        ("samples.jsonl", "{}\n", "goes on behind step-00000004, where the run ended"),
    ],
)
def test_a_changed_file_is_named(
    file: str, content: str, reason: str, tmp_path: Path, checkpoints: Checkpoints
) -> None:
    (tmp_path / file).write_text(content)
    assert find_changed(tmp_path, checkpoints) == {file: reason}


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (0, "is not what step-00000002 saw"),
        (1, "is not what step-00000002 saw"),
        (2, "is not what step-00000004 saw"),
        (3, "is not what step-00000004 saw"),
    ],
)
def test_a_changed_line_is_named_by_the_first_checkpoint_that_saw_it(
    number: int, reason: str, tmp_path: Path, checkpoints: Checkpoints
) -> None:
    lines = LINES[:]
    lines[number] = lines[number].replace(b"step", b"stop")
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(lines))
    assert find_changed(tmp_path, checkpoints) == {"metrics.jsonl": reason}


def test_lines_behind_the_last_checkpoint_are_those_of_a_run_that_goes_on(
    tmp_path: Path, checkpoints: Checkpoints
) -> None:
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 5}\n')
    reason = "goes on behind step-00000004, where the run ended"
    assert find_changed(tmp_path, checkpoints) == {"metrics.jsonl": reason}
    assert find_changed(tmp_path, checkpoints[1:]) == {}  # the newest checkpoint is lost
    (tmp_path / "result.json").unlink()
    (tmp_path / "run.json").unlink()
    assert find_changed(tmp_path, checkpoints) == {}


def test_the_evaluation_of_a_run_that_ended_where_none_was_due_is_the_last(
    tmp_path: Path, checkpoints: Checkpoints
) -> None:
    (tmp_path / "evaluations.jsonl").write_bytes(LINES[3])
    assert find_changed(tmp_path, checkpoints) == {}  # of an earlier version, which left no hash
    bind(tmp_path, "result.json", "evaluations.jsonl")
    assert find_changed(tmp_path, checkpoints) == {}
    (tmp_path / "evaluations.jsonl").write_bytes(LINES[3] + LINES[3])
    reason = "goes on behind step-00000004, where the run ended"
    assert find_changed(tmp_path, checkpoints) == {"evaluations.jsonl": reason}
    (tmp_path / "result.json").write_text(RESULT.replace("4", "5"))
    bind(tmp_path, "result.json")  # it went on, and these checkpoints are not its last
    assert find_changed(tmp_path, checkpoints) == {}


def test_an_adapter_that_the_run_did_not_export_is_named(tmp_path: Path, checkpoints: Checkpoints) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    assert find_changed(tmp_path, checkpoints) == {}
    (tmp_path / "adapter" / "adapter_config.json").write_text("{ }")
    assert find_changed(tmp_path, checkpoints) == {"adapter": "adapter_config.json is not what the run saved"}
