"""The slots that a sweep gives to its trials: by each trial's own settings, and by what the sweep began with."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.commands.parts import sweeping
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.config.launch import Launch
from rlhf_cli.errors import UserError
from rlhf_cli.sweep.launchers import Launcher
from rlhf_cli.sweep.pool import Job, Standing, StartTrial
from rlhf_cli.sweep.record import SweepRecord, Trial

Pools = list[tuple[list[str], list[dict[str, str]]]]


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> Pools:
    """The trials and the slots of every pool; nothing runs."""
    made: Pools = []

    class Recorded:
        def __init__(
            self,
            jobs: Sequence[Job],
            slots: list[dict[str, str]],
            show: Callable[..., None],
            check: Callable[[], None],
            start: StartTrial,
        ) -> None:
            made.append(([job.name for job in jobs], slots))
            self._jobs = jobs

        def run(self) -> list[Standing]:
            return [Standing(job, "finished") for job in self._jobs]

    monkeypatch.setattr(sweeping, "Pool", Recorded)
    monkeypatch.setattr(sweeping, "available_gpus", lambda: ["0", "1"])
    monkeypatch.setattr(sweeping, "_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return made


def sweep(folder: Path, *trials: dict[str, Any]) -> None:
    """Run a sweep whose trials have these settings; as the same command again where the folder holds one."""
    config = compose_config(["config=tiny", "display=quiet"])
    names = [f"trial-{number}" for number in range(len(trials))]
    launches = [
        Launch(config.model_copy(update={"device": "cpu", **own, "run_dir": str(folder / name)}), None, ())
        for name, own in zip(names, trials, strict=True)
    ]
    known = SweepRecord.read(folder)
    members = tuple(Trial(name, {"trial": name}) for name in names)
    record = SweepRecord(folder, "rlhf train -m", members, threads=known.threads if known else None)
    folder.mkdir(exist_ok=True)
    with sweeping.open_sweep(record) as run_trials:
        run_trials(launches, Launcher())


def test_swept_device_jobs_and_display_are_those_of_each_trial(tmp_path: Path, pools: Pools) -> None:
    sweep(tmp_path / "s", {"device": "cpu"}, {"device": "cuda"}, {"jobs": 3}, {"device": "cuda"}, {"display": "json"})
    names = ["trial=trial-0"], ["trial=trial-1", "trial=trial-3"], ["trial=trial-2"], ["trial=trial-4"]
    assert [trials for trials, _ in pools] == [*names]
    share = {"OMP_NUM_THREADS": "2"}  # all trials have the threads of the most that run at once
    gpus = [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    assert [slots for _, slots in pools] == [[share], gpus, [share] * 3, [share]]


@pytest.mark.parametrize(("first", "threads"), [(None, None), (2, "4"), (4, "2")])
def test_another_number_of_jobs_leaves_the_threads_of_the_trials(
    first: int | None, threads: str | None, tmp_path: Path, pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes of a trial may depend on its threads: those of the first command count."""
    own = {"OMP_NUM_THREADS": threads} if threads else {}
    for jobs in (first, 1, 8):
        sweep(tmp_path / "s", {"jobs": jobs})
    assert [slots for _, slots in pools] == [[own] * (first or 1), [own], [own] * 8]
    # what the user sets now counts
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    sweep(tmp_path / "s", {"jobs": 2})
    assert [{**os.environ, **slot}["OMP_NUM_THREADS"] for slot in pools[-1][1]] == ["5", "5"]


def test_a_launcher_that_starts_no_trial_leaves_no_folder(
    tmp_path: Path, pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*asked: object) -> None:
        raise UserError("Slurm takes no job")

    with monkeypatch.context() as refusing:
        refusing.setattr(sweeping, "starter", refuse)
        with pytest.raises(UserError, match="Slurm takes no job"):
            sweep(tmp_path / "s", {})
        assert list(tmp_path.iterdir()) == []
    sweep(tmp_path / "s", {})
    monkeypatch.setattr(sweeping, "starter", refuse)
    with pytest.raises(UserError, match="Slurm takes no job"):
        sweep(tmp_path / "s", {})
    assert SweepRecord.read(tmp_path / "s") is not None  # a sweep that had begun stays
