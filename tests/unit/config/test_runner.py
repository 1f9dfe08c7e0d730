"""How jobs are run: by whom, what hydra's record says of them, and how they end."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rlhf_cli.config.compose import amend
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.config.launch import Launch, launch
from rlhf_cli.errors import EXIT_SWEEP, Stopped, UserError
from rlhf_cli.sweep.record import Ending

from .conftest import accept, not_started, sweep_with

Started = Callable[..., list[Launch]]


def start(argv: list[str], task: Callable[[Launch], None]) -> None:
    """Runs a command line whose jobs are all run by `task`."""
    launch(argv, task, check=accept, sweep=sweep_with(not_started))


def read_yaml(folder: str | None, name: str) -> object:
    return yaml.safe_load((Path(folder or "") / name).read_text())


def test_a_run_has_hydras_record(cwd: Path, started: Started) -> None:
    (job,) = started("config=tiny", "beta=0.1", "steps=3")
    folder = job.config.run_dir
    assert (job.config.steps, job.config.beta.at(0, 1), job.source) == (3, 0.1, None)
    assert job.overrides == ("config=tiny", "beta=0.1", "steps=3")
    overrides = ["config='tiny'", "beta='0.1'", "steps=3"]
    assert read_yaml(folder, ".hydra/overrides.yaml") == overrides
    config = read_yaml(folder, ".hydra/config.yaml")
    assert isinstance(config, dict)
    assert (config["steps"], config["beta"]) == (3, {"kind": "constant", "value": 0.1})
    record = read_yaml(folder, ".hydra/hydra.yaml")
    assert isinstance(record, dict)
    hydra = record["hydra"]
    assert hydra["overrides"] == {"hydra": ["hydra.mode=RUN", f"hydra.run.dir='{folder}'"], "task": overrides}
    assert (hydra["mode"], hydra["run"]["dir"], hydra["runtime"]["output_dir"]) == ("RUN", folder, folder)
    assert hydra["job"]["override_dirname"] == "beta='0.1',config='tiny',steps=3"
    assert [path.name for path in Path(str(folder)).iterdir()] == [".hydra"]  # no train.log
    assert Path.cwd() == cwd


def test_hydras_settings_of_a_job_are_heeded(root_logger: logging.Logger) -> None:
    seen: list[tuple[str | None, Path]] = []

    def task(job: Launch) -> None:
        seen.append((os.environ.get("TEST_OF_ENV_SET"), Path.cwd()))
        root_logger.warning("said by the task")

    hydra = ["hydra/job_logging=default", "hydra.job.chdir=true", "+hydra.job.env_set.TEST_OF_ENV_SET=1"]
    before = Path.cwd()
    start(["config=tiny", "run_dir=r", *hydra], task)
    assert seen == [("1", before / "r")]
    assert "said by the task" in (before / "r/train.log").read_text()
    assert (Path.cwd(), os.environ.get("TEST_OF_ENV_SET")) == (before, None)


def test_a_sweep_has_hydras_record(cwd: Path, started: Started) -> None:
    started("config=tiny", "-m", "beta=0.1,0.2", "seeds=2", "sweep_dir=s")
    assert [path.name for path in (cwd / "s").iterdir()] == ["multirun.yaml"]  # the trials make their own folders
    record = read_yaml("s", "multirun.yaml")
    assert isinstance(record, dict)
    assert record["hydra"]["sweep"]["dir"] == str(cwd / "s")
    assert record["hydra"]["overrides"] == {
        "hydra": [
            "hydra.job.config.override_dirname.exclude_keys=['config','seeds','sweep_dir']",
            "hydra.mode=MULTIRUN",
            f"hydra.sweep.dir='{cwd}/s'",
        ],
        "task": ["config='tiny'", "beta='0.1','0.2'", "seeds=2", f"sweep_dir='{cwd}/s'", "seed=0,1"],
    }
    assert set(record) == {"hydra", *compose_config([]).model_fields_set}


def test_another_launcher_of_hydras_runs_the_trials_in_its_own_way(cwd: Path) -> None:
    trials: list[Launch] = []
    start(["config=tiny", "-m", "beta=moderate,0.2", "steps=3", "hydra/launcher=basic"], trials.append)
    folders = [trial.config.run_dir for trial in trials]
    records = [read_yaml(folder, ".hydra/overrides.yaml") for folder in folders]
    assert records == [["config='tiny'", f"beta='{beta}'", "steps=3"] for beta in ("moderate", "0.2")]
    assert [trial.config.beta.at(0, 1) for trial in trials] == [0.05, 0.2]
    assert [trial.config.resume for trial in trials] == ["auto", "auto"]  # again, it goes on
    assert [Ending.read(Path(str(folder))) for folder in folders] == [Ending(0, "")] * 2
    (sweep,) = {Path(str(folder)).parent for folder in folders}
    assert {path.name for path in sweep.iterdir()} == {*(Path(str(f)).name for f in folders), "multirun.yaml"}


def test_failed_trials_of_another_launcher_are_named_and_do_not_stop_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done: list[int] = []

    def task(job: Launch) -> None:
        if job.config.steps == 2:
            raise UserError("the reward fell over", exit_code=4)
        done.append(job.config.steps)

    with pytest.raises(UserError, match=r"^1 of 3 jobs failed: job 2 of 3 \(steps=2\)$") as error:
        start(["-m", "config=tiny", "steps=1,2,3", "hydra/launcher=basic"], task)
    assert (error.value.exit_code, done) == (EXIT_SWEEP, [1, 3])
    assert capsys.readouterr().err == "error: job 2 of 3 (steps=2): the reward fell over\n"


@pytest.mark.parametrize("error", [UserError("no disk", exit_code=6), RuntimeError("a bug"), Stopped("Ctrl-C")])
def test_what_a_run_raises_comes_out_unchanged(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    def task(job: Launch) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        start(["config=tiny"], task)
    assert raised.value is error
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [ValueError("a bug"), Stopped("Ctrl-C")])
def test_a_bug_stops_a_sweep_of_another_launcher_at_once(error: BaseException) -> None:
    seen: list[Launch] = []

    def task(job: Launch) -> None:
        seen.append(job)
        raise error

    with pytest.raises(type(error)) as raised:
        start(["-m", "config=tiny", "steps=1,2", "hydra/launcher=basic"], task)
    assert raised.value is error
    assert len(seen) == 1


@pytest.mark.parametrize("argv", [["config=tiny"], ["-m", "config=tiny", "beta=0.1,0.2", "hydra/launcher=basic"]])
def test_a_task_may_compose_and_amend_on_its_own(argv: list[str]) -> None:
    betas: list[float] = []

    def task(job: Launch) -> None:
        assert compose_config(["config=tiny", "beta=0.4"]).beta != job.config.beta
        betas.append(amend(job.config.model_dump(mode="json"), ["beta=0.3"]).beta.at(0, 1))

    start(argv, task)
    assert betas == [0.3] * (2 if "-m" in argv else 1)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("hydra/sweeper=other", "hydra/sweeper=other: have basic (every combination of listed values) and optuna"),
        ("hydra/callbacks=some", "hydra.callbacks: not supported; leave them out"),
    ],
)
def test_hydra_runs_no_code_of_its_search_path(
    cwd: Path, refused: Callable[..., str], override: str, line: str
) -> None:
    for file in ("sweeper/other", "callbacks/some"):
        path = cwd / f"more/hydra/{file}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text("it: {_target_: os.getcwd}\n")
    assert refused("config=tiny", f"hydra.searchpath=[{cwd}/more]", override) == line
