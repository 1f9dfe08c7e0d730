"""A trial that runs elsewhere is a process to the pool."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.sweep import elsewhere
from rlhf_cli.sweep.launchers import Joblib, Launcher, Ray, Slurm
from rlhf_cli.sweep.pool import Job, Process, start_process
from rlhf_cli.sweep.record import Ending
from rlhf_cli.sweep.remote import RemoteTrial


class Handle:
    """A trial of which the test says how it stands."""

    def __init__(self) -> None:
        self.standing: int | Exception | None = None
        self.waits = False

    def result(self) -> int | None:
        if isinstance(self.standing, Exception):
            raise self.standing
        return self.standing

    def drop(self) -> bool:
        return self.waits


@pytest.fixture
def handle() -> Handle:
    return Handle()


@pytest.fixture
def process(handle: Handle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Process:
    """A trial that was handed over."""
    job = Job("beta=0.1", tmp_path, ("train", "beta=0.1"), 4, "settings", False)

    def submit(trial: RemoteTrial) -> Handle:
        assert (trial.arguments, trial.where, trial.log) == (job.arguments, str(Path.cwd()), job.log)
        assert trial.unwanted == tmp_path / "trial.json"
        assert trial.variables == {"SLOT": "1", "RLHF_SETTINGS": "settings"}
        return handle

    return elsewhere._start_by(submit)(job, {"SLOT": "1"})


def test_its_exit_code_is_what_it_returns(process: Process, handle: Handle) -> None:
    assert process.poll() is None
    handle.standing = 3
    assert process.poll() == 3


def test_a_disk_that_refuses_keeps_no_trial_from_ending(process: Process, handle: Handle, tmp_path: Path) -> None:
    tmp_path.rmdir()
    handle.standing = RuntimeError("the node is gone")
    assert process.poll() == 1
    process.send_signal(signal.SIGTERM)
    assert process.poll() == -signal.SIGTERM


def test_what_goes_wrong_around_it_is_in_its_log(process: Process, handle: Handle, tmp_path: Path) -> None:
    handle.standing = RuntimeError("the node is gone\nand more")
    assert process.poll() == 1
    assert (tmp_path / "log.txt").read_text() == "RuntimeError: the node is gone\n"


def test_a_file_asks_it_to_stop(process: Process, handle: Handle, tmp_path: Path) -> None:
    process.send_signal(signal.SIGTERM)
    assert Ending.read(tmp_path) == Ending(75, "asked to stop")
    assert process.poll() is None
    handle.standing = RuntimeError("cancelled")
    assert process.poll() == -signal.SIGTERM


def test_one_that_waits_is_taken_back(process: Process, handle: Handle) -> None:
    handle.waits = True
    process.send_signal(signal.SIGTERM)
    assert process.poll() == -signal.SIGTERM


def test_our_own_launcher_starts_processes(tmp_path: Path) -> None:
    with elsewhere.starter(Launcher(), tmp_path, 1) as start:
        assert start is start_process


JOB = Job("a", Path("sweep/a"), ("train",), 1, "settings", False)


SLURM = Slurm.model_validate(
    dict.fromkeys(("account", "qos", "constraint", "gres", "mem_gb"))
    | {"cluster": "slurm", "partition": "gpu", "cpus_per_task": 2, "gpus_per_node": 0}
    | {"timeout_min": 60, "signal_delay_s": 90, "max_num_timeout": 3}
)


class Future:
    """A handle of a trial, as joblib and submitit give one; the test says how it stands."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.state = "RUNNING"
        self.cancelled: list[dict[str, bool]] = []

    def done(self) -> bool:
        return self.code is not None

    def result(self) -> int | None:
        return self.code

    def cancel(self, **settings: bool) -> bool:
        self.cancelled.append(settings)
        return self.state == "PENDING"


class Asked:
    """Stands for a library: it keeps all calls, and has a future for every trial."""

    def __init__(self, *made: object, **settings: object) -> None:
        self.calls: list[tuple[object, ...]] = [("made", *made, settings)]
        self.future = Future()

    def update_parameters(self, **settings: object) -> None:
        self.calls.append(("update_parameters", settings))

    def submit(self, trial: RemoteTrial) -> Future:
        assert trial.arguments == JOB.arguments
        return self.future

    def shutdown(self, **settings: object) -> None:
        self.calls.append(("shutdown", settings))


@pytest.mark.parametrize(("state", "code"), [("RUNNING", None), ("PENDING", -15)])
def test_a_pool_of_joblib(state: str, code: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Asked] = []

    def make(*made: object, **settings: object) -> Asked:
        asked.append(Asked(*made, **settings))
        return asked[-1]

    loky = SimpleNamespace(ProcessPoolExecutor=make)
    monkeypatch.setitem(sys.modules, "joblib.externals", SimpleNamespace(loky=loky))
    with elsewhere.starter(Joblib(), tmp_path, 2) as start:
        process, future = start(JOB, {}), asked[0].future
        future.state = state
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.poll() == code
        future.state, future.code = "DONE", 3
        assert process.poll() == (code or 3)
    # two workers, which end after a minute without a trial; it waits for them
    assert asked[0].calls == [("made", 2, {"timeout": 60}), ("shutdown", {"wait": True})]


@pytest.mark.parametrize(("state", "code", "cancelled"), [("RUNNING", None, []), ("PENDING", -15, [{"check": False}])])
def test_a_job_of_slurm(
    state: str, code: int | None, cancelled: list[dict[str, bool]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Asked] = []

    def make(*made: object, **settings: object) -> Asked:
        assert os.environ["SUBMITIT_PREEMPT_SIGNAL"] == "USR1"
        asked.append(Asked(*made, **settings))
        return asked[-1]

    monkeypatch.setenv("SUBMITIT_PREEMPT_SIGNAL", "")
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=make))
    with elsewhere.starter(SLURM, tmp_path, 1) as start:
        process, future = start(JOB, {}), asked[0].future
        future.state = state
        process.send_signal(signal.SIGTERM)
        assert (process.poll(), future.cancelled) == (code, cancelled)
    parameters = {"name": "rlhf", "slurm_partition": "gpu", "cpus_per_task": 2, "gpus_per_node": 0, "timeout_min": 60}
    assert asked[0].calls == [
        ("made", tmp_path / ".submitit", {"cluster": "slurm", "slurm_max_num_timeout": 3}),
        ("update_parameters", parameters | {"slurm_signal_delay_s": 90}),
    ]


@pytest.mark.parametrize("at", ["AutoExecutor", "submit"])
def test_a_slurm_that_takes_no_job_is_one_line(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*asked: object, **settings: object) -> None:
        raise RuntimeError("sbatch: error: invalid partition specified: gpu\nand more")

    refusing = SimpleNamespace(AutoExecutor=refuse if at == "AutoExecutor" else Asked)
    monkeypatch.setattr(Asked, "submit", refuse)
    monkeypatch.setenv("SUBMITIT_PREEMPT_SIGNAL", "")
    monkeypatch.setitem(sys.modules, "submitit", refusing)
    with pytest.raises(UserError) as caught, elsewhere.starter(SLURM, tmp_path, 1) as start:
        start(JOB, {})
    assert caught.value.line() == (
        "Slurm takes no job: sbatch: error: invalid partition specified: gpu (hydra/launcher=slurm); "
        "fix: start the sweep where sbatch and srun are, with settings that they take"
    )


class Cluster:
    """Stands for ray, with one task."""

    def __init__(self, answers: bool = True) -> None:
        self.answers = answers
        self.calls: list[object] = []
        self.code: int | None = None

    def init(self, **settings: object) -> None:
        if not self.answers:
            raise ConnectionError("nobody there\nand more")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.calls.append(settings)

    def remote(self, argument: object) -> Any:
        if isinstance(argument, RemoteTrial):
            return "the task"
        return self  # the function that a task calls

    def options(self, **settings: object) -> Cluster:
        self.calls.append(settings)
        return self

    def wait(self, tasks: list[object], timeout: float) -> tuple[list[object], list[object]]:
        assert (tasks, timeout) == (["the task"], 0)
        return (tasks, []) if self.code is not None else ([], tasks)

    def get(self, task: object) -> int | None:
        return self.code

    def shutdown(self) -> None:
        self.calls.append("shutdown")


def test_a_task_of_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray, handler = Cluster(), signal.getsignal(signal.SIGTERM)
    monkeypatch.setitem(sys.modules, "ray", ray)
    settings = {"num_cpus": 2.0, "num_gpus": 0.0, "max_retries": 1}
    with elsewhere.starter(Ray.model_validate({"address": "there"} | settings), tmp_path, 1) as start:
        assert signal.getsignal(signal.SIGTERM) == handler
        process = start(JOB, {})
        process.send_signal(signal.SIGTERM)
        assert process.poll() is None  # it finds the file once it begins
        ray.code = 75
        assert process.poll() == 75
    quiet = {"address": "there", "log_to_driver": False, "include_dashboard": False, "logging_level": "ERROR"}
    assert ray.calls == [quiet, settings, "shutdown"]


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", Cluster(answers=False))
    ray = Ray(address=None, num_cpus=1, num_gpus=0, max_retries=0)
    with pytest.raises(UserError) as caught, elsewhere.starter(ray, tmp_path, 1):
        pass
    assert caught.value.line() == "Ray does not answer: nobody there (hydra.launcher.address)"


@pytest.mark.slow
def test_joblib_starts_as_many_as_it_may(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    with elsewhere.starter(Joblib(), tmp_path, 1) as start:
        (tmp_path / "trial.json").touch()  # unwanted: no process of `rlhf` is begun
        process = start(Job("a", tmp_path, (), 1, "", False), {})
        while (code := process.poll()) is None:
            pass
        assert code == 75
