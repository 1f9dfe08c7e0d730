"""A sweep whose trials joblib, Ray or Slurm's submitit start, for real: the same folders, bytes and page."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.sweep.record import Ending, SweepRecord
from tests.support import QUICK, Outcome, contents, lines

Rlhf = Callable[..., Outcome]

LAUNCHERS = {
    "joblib": ("joblib", ("hydra/launcher=joblib", "jobs=2")),
    "ray": ("ray", ("hydra/launcher=ray",)),
    "slurm": ("submitit", ("hydra/launcher=slurm", "hydra.launcher.cluster=local", "processes=2")),
}
"""The package that each needs, and what to type; of submitit the executor of this machine."""
PATIENT = {"RAY_agent_register_timeout_ms": "300000", "RAY_raylet_start_wait_time_s": "300"}
"""Ray gives up where its own processes take more than 15 s to start, beside other tests."""


def train(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rlhf_cli", "train", *argv]
    environment = os.environ | PATIENT
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=1200, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_another_launcher_makes_the_same_sweep(launcher: str, rlhf: Rlhf, tmp_path: Path) -> None:
    package, chosen = LAUNCHERS[launcher]
    pytest.importorskip(package)
    common = (*QUICK, "steps=3", "shards=2", "threads=1")
    again = (*common, *chosen, "display=plain", "sweep_dir=sweep", "-m", "beta=0.01,0.1")
    done = train(*again, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Held-out, at the end of training" in done.stdout
    sweep = SweepRecord.read(tmp_path / "sweep")
    assert sweep is not None
    assert (sweep.folder / "report.html").is_file()
    assert [trial.told for trial in sweep.trials] == [{"beta": "0.01"}, {"beta": "0.1"}]
    for trial in sweep.trials:
        assert rlhf("train", *common, f"beta={trial.told['beta']}", f"run_dir={trial.told['beta']}").code == 0
        assert contents(sweep.path(trial)) == contents(tmp_path / trial.told["beta"])
        assert Ending.read(sweep.path(trial)) == Ending(0, "")
    log = sweep.path(sweep.trials[0]) / "log.txt"
    printed = log.read_text()
    assert train(*again, cwd=tmp_path).returncode == 0
    assert log.read_text() == printed  # no finished trial is begun again


@pytest.mark.slow
def test_a_trial_goes_on_when_the_time_of_its_job_is_up(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    (tmp_path / "rewards.py").write_text(
        "import time\n\ndef score(completions):\n    time.sleep(2)\n    return [float(len(c)) for c in completions]\n"
    )
    own = (*QUICK, "steps=18", "evaluate.every=0", "reward=python", "reward.function=rewards.py:score")
    slurm = ("hydra/launcher=slurm", "hydra.launcher.cluster=local", "hydra.launcher.timeout_min=1")
    done = train(*own, *slurm, "sweep_dir=sweep", "-m", "beta=0.1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    sweep = SweepRecord.read(tmp_path / "sweep")
    assert sweep is not None
    (trial,) = sweep.trials
    folder = sweep.path(trial)
    assert "stopped: SIGUSR1" in (folder / "log.txt").read_text()
    assert [line["step"] for line in lines(folder / "metrics.jsonl")] == [*range(1, 19)]
