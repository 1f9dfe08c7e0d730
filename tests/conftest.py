"""What every test shares: no network, repeatable hypothesis, and tiny policies that are built once."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.processes import start
from tests.score_server import ScoreServer, score_server
from tests.support import QUICK, Outcome

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tiny tensors gain nothing by threads, and two processes on two cores starve each other at their barriers.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# As in an activated environment, where the shell finds `rlhf`.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

# The collector would scan what torch and all test modules consist of several times during their import, and again at
# every full collection afterwards: a quarter of the time that finding the tests takes.
gc.disable()

if TYPE_CHECKING:
    from rlhf_cli.models.policy import Policy

# deadline=None: the first example of a test pays for importing torch. derandomize: the same examples on every machine.
settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("repeatable")

ARCHITECTURES = ("llama", "gpt2")


def pytest_collection_finish() -> None:
    """Collect from now on, but nothing of what is there."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def no_wait_for_the_disk() -> Iterator[None]:
    """A tiny run syncs forty times, which takes longer than its steps; no test cuts the power for real."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def jobs_without_hydras_copies() -> Iterator[None]:
    """hydra runs a job among four copies of its settings and a record as YAML: a fifth of a short run.

    tests/unit/config has it as it is.
    """
    from rlhf_cli.config import runner

    def run_job(task: Callable[[Any], None], settings: Any, *more: object) -> None:
        (Path(settings.hydra.run.dir) / ".hydra").mkdir(parents=True, exist_ok=True)
        task(settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "run_job", run_job)
        yield


@pytest.fixture(scope="session")
def moved_policies() -> Callable[[str], Policy]:
    """By architecture, a tiny policy whose adapter was moved away from the reference; shared, so leave it as it is."""
    from tests.unit.support import build, move_adapter, tiny

    built: dict[str, Policy] = {}

    def of(architecture: str) -> Policy:
        if architecture not in built:
            built[architecture] = build(tiny(architecture))
            move_adapter(built[architecture])
        return built[architecture]

    return of


@pytest.fixture(params=ARCHITECTURES)
def moved(request: pytest.FixtureRequest, moved_policies: Callable[[str], Policy]) -> Policy:
    """Each tiny policy with a moved adapter in turn; shared, so leave it as it is."""
    return moved_policies(request.param)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch on one thread inside the test, as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """No collection of garbage inside the test.

    An alarm may ring while hypothesis watches a collection. What it raises there is a warning, and the next one counts.
    """
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def server() -> Iterator[ScoreServer]:
    """A server that scores, as long as a test lasts."""
    with score_server() as listening:
        yield listening


@pytest.fixture
def rlhf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `rlhf ...` in this process, in an empty working directory: importing torch once is most of a run's cost."""
    from rlhf_cli.cli import run

    monkeypatch.chdir(tmp_path)

    def call(*argv: str) -> Outcome:
        capfd.readouterr()
        code = run(list(argv))
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of six steps, with a checkpoint after every second one; leave it as it is."""
    from rlhf_cli.cli import run

    folder, before = tmp_path_factory.mktemp("finished"), Path.cwd()
    os.chdir(folder)
    try:
        assert run(["train", *QUICK, "run_dir=out"]) == 0
    finally:
        os.chdir(before)
    return folder / "out"


@pytest.fixture
def forked(tmp_path: Path) -> Callable[..., Outcome]:
    """Run `rlhf ...` in a fork, in an empty working directory; the trials of a sweep are forks as well."""

    def call(*argv: str) -> Outcome:
        process = start(*argv, cwd=tmp_path)
        out, err = process.communicate()
        return Outcome(process.wait(), out, err)

    return call
