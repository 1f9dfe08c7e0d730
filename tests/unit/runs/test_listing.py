"""What `rlhf runs` says of a folder: its state, its last figures, its newest checkpoint; whatever stands there."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any, get_args

import pytest

from rlhf_cli.runs import listing
from rlhf_cli.runs.checkpoint import MANIFEST
from rlhf_cli.runs.listing import RunStatus, State, list_runs, overrides_in, read_status
from rlhf_cli.runs.lock import is_locked
from tests.unit.runs.samples import CONFIG

ROW = {"objective": 0.25, "reward/mean": 0.5, "kl/seq": 2.5}


def checkpoint(run: Path, step: int) -> Path:
    """A valid one."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    entry = {"size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
    (folder / MANIFEST).write_text(json.dumps({"step": step, "files": {"state.json": entry}}))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 8 steps that was killed in step 6, with checkpoints at 2 and 4."""
    folder = tmp_path / "outputs" / "a"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    rows = [{"step": 0, "eval/objective": 1.0}, *({"step": step} | ROW for step in range(1, 6))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 6, "obj')
    for step in (2, 4):
        checkpoint(folder, step)
    return folder


def held(folder: Path) -> Any:
    """A handle that holds the run's lock, as a training process does."""
    handle = (folder / ".lock").open("w")
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def test_a_killed_run_can_be_continued(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parents[1])
    found = read_status(run)
    assert (found.state, found.reason, found.step, found.steps) == ("stopped", None, 5, 8)
    assert (found.objective, found.reward, found.kl) == (0.25, 0.5, 2.5)
    assert found.checkpoint == run / "checkpoints" / "step-00000004"
    assert found.continue_command() == "rlhf train resume=outputs/a"
    monkeypatch.chdir("/")
    assert read_status(run).continue_command() == f"rlhf train resume={str(run).lstrip('/')}"


def test_a_damaged_checkpoint_is_named_and_passed_over(run: Path) -> None:
    (run / "checkpoints" / "step-00000004" / "state.json").write_text("[]")
    found = read_status(run)
    assert (found.state, found.reason) == ("stopped", "step-00000004: state.json: sha256 mismatch")
    assert found.checkpoint == run / "checkpoints" / "step-00000002"
    (run / "checkpoints" / "step-00000002" / "state.json").unlink()
    broken = read_status(run)
    assert broken.state == "broken"
    assert broken.reason == (
        "no usable checkpoint: step-00000004: state.json: sha256 mismatch; step-00000002: state.json: missing"
    )
    assert (broken.continue_command(), broken.row()["continue"], broken.row()["checkpoint"]) == (None, None, None)


def test_a_finished_run_stays_finished_without_its_checkpoints(run: Path) -> None:
    (run / "result.json").write_text('{"step": 8}')
    assert read_status(run).state == "finished"
    assert read_status(run).continue_command().endswith(" steps=16")
    for folder in (run / "checkpoints").iterdir():
        (folder / MANIFEST).unlink()
    assert (read_status(run).state, read_status(run).continue_command()) == ("finished", None)
    (run / "result.json").write_text('{"step": 7}')  # it went on since, to 8
    assert read_status(run).state == "broken"


def test_a_run_of_supervised_training_is_listed_with_its_kind(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parents[1])
    config = {"steps": 8, "model": {"kind": "tiny"}, "objective": {"kind": "bradley_terry"}}
    (run / "config.json").write_text(json.dumps(config))
    rows = [{"step": 4, "loss": 0.5, "heldout/loss": 0.625, "heldout/accuracy": 0.75}, {"step": 5, "loss": 0.5}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = list_runs(run.parent)
    assert (found.state, found.step, found.made_of) == ("stopped", 5, ("tiny", "bradley_terry"))
    assert found.held_out == {"step": 4, "loss": 0.625, "accuracy": 0.75}
    assert found.continue_command() == "rlhf reward train resume=outputs/a"
    assert found.row()["verb"] == "reward train"
    (run / "result.json").write_text('{"step": 5, "stalled": 3}')
    assert (read_status(run).state, read_status(run).continue_command()) == ("finished", None)
    (run / "result.json").write_text('{"step": 5, "stalled": null}')
    assert read_status(run).state == "stopped"
    (run / "metrics.jsonl").write_text('{"step": 4, "heldout/loss": 0.5}\n')
    assert read_status(run).held_out == {"step": 4, "loss": 0.5}


def test_a_run_that_works_is_running_and_is_left_alone(run: Path) -> None:
    assert not is_locked(run)
    assert not (run / ".lock").exists()
    before = sorted(run.rglob("*"))
    handle = held(run)
    assert is_locked(run)
    assert (read_status(run).state, read_status(run).continue_command()) == ("running", None)
    handle.close()
    assert not is_locked(run)
    assert read_status(run).state == "stopped"
    assert sorted(run.rglob("*")) == sorted([*before, run / ".lock"])
    held(run).close()  # nobody holds it


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (None, (4, None, None, None)),
        (b"", (4, None, None, None)),
        (b"\xff\xfe\n[1]\n7\n", (4, None, None, None)),
        (b'{"step": 0, "eval/objective": 1}\n', (0, None, None, None)),
        (b'{"step": 3, "objective": null, "reward/mean": NaN, "kl/seq_k1": 1.5}\n', (3, None, "nan", 1.5)),
        (b'{"step": "x", "objective": "y", "reward/mean": true, "kl/seq": []}', (4, None, None, None)),
        (b'{"step": 2, "objective": 1.0}\n{"step": 3, "eval/objective": 1.0}\n', (3, 1.0, None, None)),
        (b'{"step": ' + b"9" * 400 + b', "objective": ' + b"9" * 400 + b"}", (4, None, None, None)),
        (b'{"step": 9223372036854775807, "objective": -9223372036854775807}', (2**63 - 1, 1 - 2**63, None, None)),
        (b'{"step": 9223372036854775808, "objective": -9223372036854775808}', (4, None, None, None)),  # 2^63
        (b"x" * 2**20 + b'\n{"step": 5, "objective": 2}\n' + b"[" * 9999, (5, 2, None, None)),
        (b'{"step": 5, "objective": 2, "x": "' + b"x" * 2**20 + b'"}\n', (4, None, None, None)),
    ],
)
def test_any_metrics_file_is_read(metrics: bytes | None, expected: tuple[Any, ...], run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    if metrics is not None:
        (run / "metrics.jsonl").write_bytes(metrics)
    found = read_status(run)
    assert (found.step, found.objective, str(found.reward) if found.reward else None, found.kl) == expected


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 99999, b"1" * 5000, b'{"steps": "8"}', None])
def test_a_config_that_cannot_be_read_is_a_broken_run(content: bytes | None, run: Path) -> None:
    config = run / "config.json"
    config.unlink()
    config.write_bytes(content) if content is not None else os.mkfifo(config)
    if content == b'{"steps": "8"}':
        config.write_text(json.dumps(CONFIG | {"steps": "8"}))
    (found,) = list_runs(run.parent)
    assert (found.state, found.reason, found.steps) == ("broken", "config.json: not readable", None)


def test_all_runs_are_found_the_newest_first_and_nothing_else(run: Path) -> None:
    outputs = run.parent
    trial = outputs / "sweeps" / "s" / "beta=0.1-abc"
    for folder, content in (
        (trial, CONFIG),
        (outputs / "model", {"model_type": "llama"}),
        (run / "checkpoints" / "inside", CONFIG),
        (run / "inner", CONFIG),
    ):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(content))
    (outputs / "empty").mkdir()
    (outputs / "empty" / "config.json").write_text("{")
    (outputs / "loop").symlink_to(outputs)
    for age, folder in enumerate((run / "inner", trial, run)):
        for file in folder.glob("*.json*"):
            os.utime(file, (1000 - age, 1000 - age))
    assert [found.folder for found in list_runs(outputs)] == [run / "inner", trial, run]
    assert [found.folder for found in list_runs(outputs / "sweeps" / "..")] == [run / "inner", trial, run]
    assert [found.state for found in list_runs(trial)] == ["broken"]
    assert list_runs(outputs / "empty") == list_runs(outputs / "nowhere") == []


def test_a_run_that_its_stop_ended_goes_on_without_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parents[1])
    (run / "result.json").write_text('{"step": 5, "stopped": {"key": "stop.kl", "reason": "x"}}')
    found = read_status(run)
    assert (found.state, found.stopped_by) == ("finished", "stop.kl")
    assert found.continue_command() == "rlhf train resume=outputs/a stop.kl=null"
    assert found.continue_command(anywhere=True) == f"rlhf train resume={run} stop.kl=null"
    (run / "result.json").write_text('{"step": 5, "stopped": {"key": 3}}')
    assert (read_status(run).state, read_status(run).stopped_by) == ("stopped", None)


@pytest.mark.parametrize("state", get_args(State))
def test_a_run_that_can_go_on_says_how(state: State, tmp_path: Path) -> None:
    status = RunStatus(tmp_path, state, None, 3, 3, None, None, None, tmp_path, 0.0)
    command = f"rlhf train resume={tmp_path}"
    expected = {"stopped": command, "finished": f"{command} steps=6"}.get(state)
    assert status.continue_command(anywhere=True) == expected


def test_a_run_of_one_step_is_finished_by_its_result_alone(run: Path) -> None:
    (run / "config.json").write_text(json.dumps(CONFIG | {"steps": 1}))
    assert read_status(run).state == "stopped"
    (run / "result.json").write_text('{"step": 1}')
    assert read_status(run).state == "finished"


def test_checkpoints_that_cannot_be_read_are_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(root: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(root))

    monkeypatch.setattr(listing, "find_newest", refuse)
    found = read_status(run)
    assert (found.state, found.reason) == ("broken", "no usable checkpoint: checkpoints: Permission denied")


def test_a_run_changes_with_its_settings_or_its_metrics(run: Path) -> None:
    config, metrics = run / "config.json", run / "metrics.jsonl"
    for times in ((1000, 2000), (4000, 3000)):
        for file, time in zip((config, metrics), times, strict=True):
            os.utime(file, (time, time))
        assert read_status(run).changed == max(times)
    metrics.unlink()
    assert read_status(run).changed == 4000.0
    config.unlink()
    assert read_status(run).changed == 0.0


@pytest.mark.parametrize(
    ("command", "overrides"),
    [
        (["train", "config=tiny", "beta=0.2", "--json", "run_dir=x", "hydra.x=1", "/data=b=c", "seed=3"],
         ("config=tiny", "beta=0.2", "seed=3")),
        (["a=1", "b=2"], ("b=2",)),  # the first word is the program's
        ([3, 4, "b=2"], ("b=2",)),
        ("a=1 b=2", ()),
        (None, ()),
    ],
)  # fmt: skip
def test_the_overrides_are_those_of_the_run_itself(command: object, overrides: tuple[str, ...], run: Path) -> None:
    assert overrides_in({"command": command}) == overrides
    (run / "run.json").write_text(json.dumps({"command": command}))
    assert read_status(run).overrides == overrides
