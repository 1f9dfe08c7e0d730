"""A disk that is full, or that may not be written."""

from __future__ import annotations

import errno
from collections import namedtuple
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.config import runner
from rlhf_cli.runs.disk import DISK
from tests.support import QUICK, Outcome, contents, lines

Rlhf = Callable[..., Outcome]
Usage = namedtuple("Usage", "total used free")


class Full:
    """Refuses to write checkpoints of the steps it is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
        self._write = DISK.write
        self._names = tuple(f".tmp-step-{step:08d}" for step in steps)
        monkeypatch.setattr(DISK, "write", self.write, raising=False)

    def write(self, file: Path, content: bytes) -> None:
        if file.parent.name in self._names:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._write(file, content)


@pytest.mark.case(32)
def test_a_checkpoint_that_fails_is_named_and_the_run_goes_on(
    finished: Path, rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Full(monkeypatch, 2, 4)
    outcome = rlhf("train", *QUICK, "run_dir=out")
    assert outcome.code == 0, outcome.err
    assert "the checkpoint of step 2 cannot be written: No space left on device" in outcome.err
    assert "tries again at the next one; newest valid checkpoint: step 0" in outcome.err
    assert contents(tmp_path / "out") == contents(finished)


@pytest.mark.case(32)
def test_if_it_stays_full_the_run_ends_and_goes_on_once_there_is_room(
    finished: Path, rlhf: Rlhf, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as full:
        Full(full, 2, 4, 6)
        outcome = rlhf("train", *QUICK, "checkpoint.max_failures=2", "run_dir=out")
    assert outcome.code == 6
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: the checkpoint of step 4 cannot be written: No space left on device, as 2 times in")
    assert last.endswith("; newest valid checkpoint: step 0")
    assert rlhf("train", "resume=out").code == 0
    assert contents(tmp_path / "out") == contents(finished)


@pytest.mark.case(32)
def test_a_first_checkpoint_that_fails_leaves_no_folder_in_the_way(finished: Path, rlhf: Rlhf, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as full:
        Full(full, 0)
        outcome = rlhf("train", *QUICK, "run_dir=out")
    assert outcome.code == 6
    assert "the checkpoint of step 0 cannot be written: No space left on device" in outcome.err
    assert outcome.err.endswith("fix: free some space, then give the command again\n")
    assert list(tmp_path.iterdir()) == []
    assert rlhf("train", *QUICK, "run_dir=out").code == 0
    assert contents(tmp_path / "out") == contents(finished)


@pytest.mark.case(32)
def test_a_record_of_hydras_that_cannot_be_written_leaves_no_folder(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_job(task: object, settings: Any, *more: object) -> None:
        (Path(settings.hydra.run.dir) / ".hydra").mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runner, "run_job", run_job)
    outcome = rlhf("train", *QUICK, "run_dir=runs/out")
    place = tmp_path / "runs" / "out"
    assert outcome.code == 6
    assert outcome.err == f"error: the disk refuses: No space left on device ({place}); fix: free space or rights\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.case(32)
def test_a_log_that_cannot_be_written_ends_the_run(
    finished: Path, rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import rlhf_cli.runs.logbook as metrics

    class Full(metrics.JsonlLog):
        def write(self, row: Mapping[str, Any]) -> None:
            if self.file.name == "metrics.jsonl" and self._size > 3000:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().write(row)

    with monkeypatch.context() as full:
        full.setattr("rlhf_cli.runs.logbook.JsonlLog", Full)
        outcome = rlhf("train", *QUICK, "run_dir=out")
    assert outcome.code == 6
    assert outcome.err.splitlines()[-1].startswith("error: the disk refuses: No space left on device")
    assert outcome.err.splitlines()[-1].endswith("newest valid checkpoint: step 4")
    assert rlhf("train", "resume=out").code == 0
    assert contents(tmp_path / "out") == contents(finished)


@pytest.mark.case(32)
def test_curves_that_cannot_be_written_stop_nothing(
    finished: Path, rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_cli.runs.sinks import TensorBoard

    plain = TensorBoard.write

    def write(self: TensorBoard, step: int, metrics: dict[str, float]) -> None:
        if step > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(self, step, metrics)

    monkeypatch.setattr(TensorBoard, "write", write)
    outcome = rlhf("train", *QUICK, "run_dir=out")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("the curves in tensorboard end before step 3: No space left on device") == 1
    assert contents(tmp_path / "out") == contents(finished)


@pytest.mark.case(32)
def test_too_little_room_is_said_before_the_first_step(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlhf_cli.pipeline.saving.shutil.disk_usage", lambda path: Usage(10**12, 10**12, 1000))
    outcome = rlhf("train", *QUICK, "run_dir=out")
    assert outcome.code == 6
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: the checkpoints need ")
    assert "and 0.0 MB are free" in last
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.case(32)
def test_what_is_there_already_counts_as_room(
    rlhf: Rlhf, copied: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied()
    there = sum(file.stat().st_size for file in (run / "checkpoints").rglob("*.safetensors"))
    monkeypatch.setattr("rlhf_cli.pipeline.saving.shutil.disk_usage", lambda path: Usage(10**12, 10**12, 1000))
    outcome = rlhf("train", "resume=out", "checkpoint.keep=1")
    assert there > 3e5  # four checkpoints, of which one, the best and one more are asked for
    assert outcome.code == 0, outcome.err


@pytest.mark.case(33)
@pytest.mark.parametrize("given", ["run_dir=file/run", "run_dir=file", "run_dir=file/run/deeper"])
def test_a_folder_that_cannot_be_made_is_named_before_a_model_is_loaded(
    given: str, rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("rlhf_cli.ranks.sharding.load_models", lambda config, note: pytest.fail("the model was loaded"))
    outcome = rlhf("train", *QUICK, given)
    assert outcome.code == 6, outcome.err
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1


@pytest.mark.case(33)
def test_a_folder_that_may_not_be_written_is_named_before_a_model_is_loaded(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path.open  # root may write everywhere, so the rights are taken away here

    def read_only(self: Path, mode: str = "r", *given: Any, **more: Any) -> Any:
        if mode != "r":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return plain(self, mode, *given, **more)

    monkeypatch.setattr("rlhf_cli.ranks.sharding.load_models", lambda config, note: pytest.fail("the model was loaded"))
    monkeypatch.setattr(Path, "open", read_only)
    outcome = rlhf("train", *QUICK, "run_dir=out")
    assert outcome.code == 6, outcome.err
    assert "Permission denied" in outcome.err


def test_every_step_is_logged_though_a_checkpoint_failed(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Full(monkeypatch, 2)
    assert rlhf("train", *QUICK, "run_dir=out").code == 0
    assert [row["step"] for row in lines(tmp_path / "out" / "metrics.jsonl")] == list(range(7))


def steps_of(run: Path) -> list[int]:
    return sorted(int(path.name[-8:]) for path in (run / "checkpoints").glob("step-*"))


def bests(monkeypatch: pytest.MonkeyPatch, rewards: dict[int, float]) -> None:
    """Evaluations come out with these rewards, by step."""
    from rlhf_cli.evaluation.evaluation import Evaluation

    monkeypatch.setattr(Evaluation, "means", lambda self: (rewards[self.step], 0.0))


def test_the_best_checkpoint_is_kept_however_old_it_gets(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bests(monkeypatch, {0: 0.0, 1: 0.2, 2: 0.9, 3: 0.9, 4: 0.8, 5: 0.1, 6: 0.7})
    every = ("evaluate.every=1", "checkpoint.every=1", "checkpoint.keep=1")
    assert rlhf("train", *QUICK, *every, "run_dir=out").code == 0
    assert steps_of(tmp_path / "out") == [2, 6]
    assert (tmp_path / "out" / "checkpoints" / "best").read_text() == "step-00000002\n"
    assert rlhf("train", *QUICK, *every, "checkpoint.keep_best=false", "run_dir=without").code == 0
    assert steps_of(tmp_path / "without") == [6]
    assert not (tmp_path / "without" / "checkpoints" / "best").exists()


def test_a_best_step_that_could_not_be_saved_does_not_cost_the_best_that_was(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bests(monkeypatch, {0: 0.0, 1: 0.5, 2: 0.9, 3: 0.1, 4: 0.2, 5: 0.1, 6: 0.3})
    Full(monkeypatch, 2)
    assert rlhf("train", *QUICK, "evaluate.every=1", "checkpoint.every=1", "checkpoint.keep=1", "run_dir=out").code == 0
    assert steps_of(tmp_path / "out") == [1, 6]
    assert (tmp_path / "out" / "checkpoints" / "best").read_text() == "step-00000001\n"
