"""Where a run and a sweep write."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path

import pytest

from rlhf_cli.config.launch import Launch, launch
from rlhf_cli.config.naming import reserve_folder
from rlhf_cli.errors import EXIT_DISK, UserError, disk_errors

from .conftest import accept, not_started, sweep_with

Started = Callable[..., list[Launch]]
Refused = Callable[..., str]


def test_a_run_gets_a_folder_of_its_second(cwd: Path, started: Started) -> None:
    (job,) = started("config=tiny", "beta=0.1", "steps=3")
    folder = job.config.run_dir
    assert re.fullmatch(rf"{re.escape(str(cwd))}/outputs/\d{{4}}-\d\d-\d\d/\d\d-\d\d-\d\d", str(folder))
    assert (job.config.steps, job.config.beta.at(0, 1), job.source) == (3, 0.1, None)
    assert job.overrides == ("config=tiny", "beta=0.1", "steps=3")


def test_the_default_folders_carry_the_date(started: Started) -> None:
    (job,) = started("config=tiny")
    assert datetime.now().strftime("/outputs/%Y-%m-") in str(job.config.run_dir)


def test_hydras_own_run_dir_is_heeded(cwd: Path, started: Started) -> None:
    (job,) = started("config=tiny", "hydra.run.dir=elsewhere/x")
    assert job.config.run_dir == str(cwd / "elsewhere/x")


def test_an_explicit_run_dir_is_used_as_it_is(cwd: Path, started: Started) -> None:
    for _ in range(2):  # whether it holds a run is for others to decide
        (job,) = started("run_dir=my runs/a", "config=tiny")
        assert job.config.run_dir == str(cwd / "my runs/a")
    assert (cwd / "my runs/a/.hydra").is_dir()
    assert not (cwd / "outputs").exists()


def test_a_folder_that_cannot_be_made_is_a_disk_error(cwd: Path) -> None:
    (cwd / "file").touch()
    refused = pytest.raises(UserError, match="fix: give another path: a file is in the way")
    with refused as error, disk_errors():  # as every command is run
        launch(["config=tiny", "run_dir=file/run"], not_started, check=accept, sweep=sweep_with(not_started))
    assert error.value.exit_code == EXIT_DISK


def test_runs_of_the_same_second_get_different_folders(started: Started) -> None:
    found = [started("config=tiny", "hydra.run.dir=outputs/x/10-00-00")[0].config.run_dir for _ in range(3)]
    assert [Path(str(folder)).name for folder in found] == ["10-00-00", "10-00-00-2", "10-00-00-3"]


def test_processes_of_the_same_second_get_different_folders(cwd: Path) -> None:
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        made = [*pool.map(reserve_folder, [cwd / "o/x"] * 100)]
    assert len(set(made)) == len(made) == 100
    assert {*(cwd / "o").iterdir()} == {*made}


def test_a_sweep_has_the_folder_of_its_fixed_settings(started: Started) -> None:
    def folder(*argv: str) -> str:
        return Path(str(started("config=tiny", "-m", *argv)[0].config.run_dir)).parent.name

    plain = folder("beta=0.1,0.2")
    assert plain == folder("beta=0.1,0.2", "steps=9", "display=quiet", "jobs=2", "checkpoint.every=3")
    assert plain == folder("beta=0.3,0.1,0.2")  # a value more
    assert plain == folder("beta=0.1,0.2", "seeds=2")  # seeds are replicates
    others = (
        ("beta=0.1", "temperature=1,0.5"),
        ("beta=0.1,0.2", "optimizer.lr=1e-5"),
        ("beta=0.1,0.2", "temperature=0.5"),
    )
    assert len({plain, *(folder(*argv) for argv in others)}) == 4
