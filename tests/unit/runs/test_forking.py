"""Which checkpoint a fork begins from, what it may change, and which runs share their beginning."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_cli.config.compose import amend
from rlhf_cli.errors import UserError
from rlhf_cli.runs.binding import HELD_OUT, PARENT, read_record, write_record
from rlhf_cli.runs.checkpoint import publish
from rlhf_cli.runs.folder import CHECKPOINTS, CONFIG
from rlhf_cli.runs.forking import check_fork, find_fork_point, fork_point, make_fork, newest_in_both, parent_of
from rlhf_cli.runs.resume import read_config
from tests.unit.evaluation.samples import AFTER

CHECKPOINT = "c" * 64


def fork_of(folder: Path, parent: Path, step: int = 2, checkpoint: str = CHECKPOINT) -> Path:
    folder.mkdir()
    told = {"folder": str(parent), "step": step, "checkpoint": checkpoint, "changed": {"beta.value": [0.1, 0.2]}}
    write_record(folder, {PARENT: told})
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with checkpoints of steps 2 and 4."""
    folder = tmp_path / "a@run"
    folder.mkdir()
    (folder / CONFIG).write_text("{}")
    for step in (2, 4):
        publish(folder / CHECKPOINTS, step, {"file": b"x"})
    return folder


@pytest.mark.parametrize(("end", "step"), [("", 4), ("@latest", 4), ("@4", 4), ("@2", 2)])
def test_a_target_means_a_checkpoint(run: Path, end: str, step: int) -> None:
    assert find_fork_point(f"{run}{end}").checkpoint == run / CHECKPOINTS / f"step-{step:08d}"


def test_a_checkpoint_that_is_not_there_is_answered_with_those_that_are(run: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint of step 3; there are: 2, 4"):
        find_fork_point(f"{run}@3")


def test_a_step_is_a_number(run: Path) -> None:
    with pytest.raises(UserError, match="no step: two"):
        find_fork_point(f"{run}@two")


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        ([], {}),
        (["beta=0.2"], {"beta.value": (0.01, 0.2)}),
        (["optimizer.lr=0.5", "run_dir=x", "display=plain"], {"optimizer.lr": (0.01, 0.5)}),
        (["beta=linear"], {"beta.kind": ("constant", "linear"), "beta.value": (0.01, None),
                           "beta.start": (None, 0.1), "beta.end": (None, 0.02)}),
        (["model.engine=transformers", "steps=9"], {"model.engine": ("auto", "transformers"), "steps": (6, 9)}),
    ],
)  # fmt: skip
def test_what_changed(finished: Path, overrides: list[str], changed: dict[str, object]) -> None:
    saved = read_config(finished)
    assert check_fork(amend(saved, ()), amend(saved, overrides), 2) == changed


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("model.lora.rank=4", "moments fit that model alone"),
        ("model.seed=4", "moments fit that model alone"),
        ("data=text", "same prompts"),
        ("evaluate.prompts=3", "same prompts"),
        ("evaluate.every=0", "would join the training"),
        ("seed=1", "same random numbers"),
        ("algorithm=ppo", "has no value head"),
        ("steps=2", "no step is left after step 2"),
    ],
)
def test_what_would_make_the_state_meaningless_is_refused(finished: Path, override: str, reason: str) -> None:
    saved = read_config(finished)
    path = ["data.path=prompts.txt"] if override == "data=text" else []
    with pytest.raises(UserError, match=reason):
        check_fork(amend(saved, ()), amend(saved, [override, *path]), 2)


def test_parent_and_fork_and_two_forks_share_their_beginning(run: Path, tmp_path: Path) -> None:
    one, two = fork_of(tmp_path / "one", run), fork_of(tmp_path / "two", run)
    other = fork_of(tmp_path / "other", tmp_path / "another", checkpoint="d" * 64)
    assert fork_point(run, one) == fork_point(one, run) == fork_point(one, two) == 2
    assert fork_point(run, other) is fork_point(one, other) is fork_point(run, run) is None


def test_a_parent_that_was_moved_is_known_by_its_checkpoint(finished: Path, tmp_path: Path) -> None:
    manifest = finished / CHECKPOINTS / "step-00000002" / "MANIFEST.json"
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert fork_point(finished, fork_of(tmp_path / "fork", tmp_path / "gone", checkpoint=digest)) == 2


def test_a_run_that_is_no_fork_has_no_parent(finished: Path, tmp_path: Path) -> None:
    write_record(tmp_path, {PARENT: {"folder": "x"}})
    assert parent_of(finished) is None
    assert parent_of(tmp_path) is None


def test_the_way_to_more_steps_is_said(finished: Path) -> None:
    saved = read_config(finished)
    with pytest.raises(UserError, match=r"^no step is left after step 3 \(steps=3\); fix: steps=6$"):
        check_fork(amend(saved, ()), amend(saved, ["steps=3"]), 3)
    assert check_fork(amend(saved, ()), amend(saved, ["steps=4"]), 3) == {"steps": (6, 4)}


@pytest.fixture
def parent(finished: Path, tmp_path: Path) -> Path:
    """A finished run with a question for people in its queue."""
    folder = Path(shutil.copytree(finished, tmp_path / "parent"))
    (folder / "feedback").mkdir(exist_ok=True)
    (folder / "feedback" / "queue.jsonl").write_text("{}\n")
    return folder


def test_a_fork_is_its_parent_at_the_checkpoint_with_other_settings(parent: Path, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in sorted(parent.rglob("*")) if file.is_file()}
    origin, fork = find_fork_point(f"{parent}@2"), tmp_path / "deep" / "down" / "fork"
    config = amend(read_config(parent), ["beta=0.2"])
    make_fork(origin, fork, config, {"beta.value": (0.01, 0.2)}, ["rlhf", "fork"])
    logs = ("metrics.jsonl", "timings.jsonl", "samples.jsonl", "evaluations.jsonl", "feedback/queue.jsonl")
    own = {"config.json", "run.json"}
    copied = {
        f"checkpoints/step-00000002/{name}"
        for name in ("MANIFEST.json", *(f.name for f in origin.checkpoint.iterdir()))
    }
    found = {str(file.relative_to(fork)): file for file in fork.rglob("*") if file.is_file()}
    assert set(found) == {*logs, *own, *copied}
    assert all(found[name].read_bytes() == before[parent / name] for name in {*logs, *copied})
    assert found["config.json"].read_text() == json.dumps(config.model_dump(mode="json"), indent=2) + "\n"
    assert fork_point(parent, fork) == 2
    record = read_record(fork)
    assert (record["command"], record["memory"]["measured_mib"]) == (["rlhf", "fork"], None)
    assert not {HELD_OUT, "result", "wandb"} & record.keys()
    assert {file: file.read_bytes() for file in sorted(parent.rglob("*")) if file.is_file()} == before
    assert list(fork.parent.iterdir()) == [fork]
    (fork / "mine").touch()  # the fork is at work
    make_fork(origin, fork, config, {}, ["rlhf", "fork"])
    assert (fork / "mine").exists()


def test_a_run_without_its_record_has_no_fork(parent: Path, tmp_path: Path) -> None:
    (parent / "run.json").unlink()
    config = amend(read_config(parent), ())
    with pytest.raises(UserError, match=r"^the run has no run.json"):
        make_fork(find_fork_point(str(parent)), tmp_path / "fork", config, {}, [])
    assert not (tmp_path / "fork").exists()


def test_a_checkpoint_that_is_gone_meanwhile_leaves_no_half_fork(parent: Path, tmp_path: Path) -> None:
    origin, config = find_fork_point(f"{parent}@2"), amend(read_config(parent), ())
    shutil.rmtree(origin.checkpoint)
    with pytest.raises(UserError, match=r"^the run removed this checkpoint meanwhile: MANIFEST.json: missing"):
        make_fork(origin, tmp_path / "fork", config, {}, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parent"]


@pytest.mark.parametrize(("after", "step"), [(0, 8), (3, 8), (7, 8), (8, None), (12, None)])
def test_two_runs_are_compared_at_the_newest_step_that_both_evaluated(
    after: int, step: int | None, tmp_path: Path
) -> None:
    one, other = [replace(AFTER, step=n) for n in (4, 8, 12)], [replace(AFTER, step=n, failures=1) for n in (4, 8, 16)]
    for name, evaluations in (("one", one), ("other", other)):
        (tmp_path / name).mkdir()
        lines = "".join(json.dumps(each.row()) + "\n" for each in evaluations)
        (tmp_path / name / "evaluations.jsonl").write_text(lines)
    expected = (one[1], other[1]) if step else None
    assert newest_in_both(tmp_path / "one", tmp_path / "other", after) == expected
