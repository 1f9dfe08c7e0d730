from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import run_job

from rlhf_cli.config import runner
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.config.launch import Launch, OpenSweep, RunTrials, launch
from rlhf_cli.errors import UserError
from rlhf_cli.schema import RunConfig
from rlhf_cli.sweep.record import SweepRecord

Recorder = Callable[..., list[Launch]]


@pytest.fixture(autouse=True)
def jobs_with_hydras_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user's command runs it."""
    monkeypatch.setattr(runner, "run_job", run_job)


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def accept(config: RunConfig) -> None:
    """A check that accepts every config."""


def sweep_with(run_trials: Callable[[Sequence[Launch]], None]) -> OpenSweep:
    """Opens a sweep whose trials are run by `run_trials`."""

    @contextmanager
    def opened(sweep: SweepRecord) -> Iterator[RunTrials]:
        yield lambda launches, launcher: run_trials(launches)

    return opened


@pytest.fixture
def started() -> Recorder:
    """Runs a command line and returns the jobs that its task, or its sweep, was called with."""

    def run(*argv: str) -> list[Launch]:
        jobs: list[Launch] = []
        launch(argv, jobs.append, check=accept, sweep=sweep_with(jobs.extend))
        return jobs

    return run


@pytest.fixture(scope="session")
def saved_paths() -> dict[str, Any]:
    """The saved config of a run that reads a path for each of data, model and reward; leave it as it is."""
    options = ("data=text", "data.path=x.txt", "model=pretrained", "model.path=m", "reward=model", "reward.path=r")
    return compose_config(["config=tiny", *options]).model_dump(mode="json")


def not_started(job: object) -> None:
    """A task, or what runs a sweep's trials, that must not be called."""
    pytest.fail("a job was started")


@pytest.fixture
def refused(cwd: Path) -> Callable[..., str]:
    """Runs a command line that must be refused, with nothing made and no job started; returns the error."""

    def run(*argv: str) -> str:
        before = sorted(cwd.rglob("*"))
        with pytest.raises(UserError) as error:
            launch(argv, not_started, check=accept, sweep=sweep_with(not_started))
        assert sorted(cwd.rglob("*")) == before
        assert error.value.exit_code == 2
        return error.value.line()

    return run


def write(path: Path, text: str) -> Path:
    """A file with this text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[logging.Logger]:
    """Python's root logger; handlers that hydra adds write to a test's own streams, so they go with the test."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    yield root
    for handler in {*root.handlers} - {*handlers}:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
