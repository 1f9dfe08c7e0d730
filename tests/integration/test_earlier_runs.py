"""Runs, sweeps and checkpoints that an earlier version wrote (tests/fixtures) resume, report and verify today."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support import REPEATABLE, Outcome, contents, lines

Rlhf = Callable[..., Outcome]

FIXTURES = Path(__file__).parents[1] / "fixtures" / "first_layout"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with PPO, an adaptive beta and normalised scores; finished after 6 steps."""
    return shutil.copytree(FIXTURES / "run", tmp_path / "run")


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two finished trials of 4 steps."""
    return shutil.copytree(FIXTURES / "sweep", tmp_path / "sweep")


def stop_at(run: Path, step: int) -> None:
    """Leave the run as if it had been killed: the newest checkpoint is that of `step`, the logs go further."""
    for folder in run.glob("checkpoints/step-*"):
        if int(folder.name.removeprefix("step-")) > step:
            shutil.rmtree(folder)
    (run / "result.json").unlink()


def lasting(row: Mapping[str, object]) -> set[str]:
    """The names of a line that do not depend on the comparison of sampler and trainer."""
    return {name for name in row if not name.startswith("sampler/")}


def assert_same(run: Path, original: Path, log: str) -> None:
    """The same bytes on the ground that wrote the original; elsewhere (the log says so) lines of the same form."""
    if "not bit for bit" not in log:
        assert contents(run) == contents(original)
        return
    for name in (name for name in REPEATABLE if name.endswith(".jsonl")):
        now, before = lines(run / name), lines(original / name)
        assert [row["step"] for row in now] == [row["step"] for row in before]
        # on other ground sampler and trainer are compared once more, and such a step has the figures of its weights
        assert [lasting(row) for row in now] == [lasting(row) for row in before]
        assert now[0] == before[0]


def test_a_killed_run_continues_to_the_bytes_that_the_earlier_version_wrote(rlhf: Rlhf, run: Path) -> None:
    stop_at(run, 4)
    outcome = rlhf("train", f"resume={run}", "display=plain")
    assert outcome.code == 0, outcome.err
    assert "resumed from step 4" in outcome.err
    assert_same(run, FIXTURES / "run", outcome.err)


def test_a_single_checkpoint_is_resumed(rlhf: Rlhf, run: Path) -> None:
    outcome = rlhf("train", f"resume={run / 'checkpoints' / 'step-00000003'}", "display=plain")
    assert outcome.code == 0, outcome.err
    assert "resumed from step 3" in outcome.err
    assert_same(run, FIXTURES / "run", outcome.err)


def test_a_finished_run_is_left_alone(rlhf: Rlhf, run: Path) -> None:
    outcome = rlhf("train", f"resume={run}")
    assert outcome.code == 0
    assert "is finished, nothing was changed" in outcome.out
    assert contents(run) == contents(FIXTURES / "run")


def test_it_verifies(rlhf: Rlhf, run: Path) -> None:
    outcome = rlhf("verify-resume", str(run))
    if "not bit for bit" not in outcome.err:  # on other ground the numbers may part, and it says so
        assert "identical: steps 5-6" in outcome.out, outcome.err
    assert outcome.code in (0, 5), outcome.err


def test_it_is_listed_and_reported(rlhf: Rlhf, run: Path) -> None:
    row = json.loads(rlhf("runs", str(run), "--json").out)
    assert (row["state"], row["step"], row["steps"]) == ("finished", 6, 6)
    assert row["objective"] == lines(run / "metrics.jsonl")[-1]["objective"]
    assert rlhf("report", str(run)).code == 0
    page = (run / "report.html").read_text()
    assert lines(run / "samples.jsonl")[0]["prompt"] in page


def test_a_finished_sweep_is_answered_again_without_a_trial(rlhf: Rlhf, sweep: Path) -> None:
    before = {trial.name: contents(trial) for trial in sweep.glob("beta=*")}
    assert len(before) == 2
    outcome = rlhf("train", *command_of(sweep))
    assert outcome.code == 0, outcome.err
    assert "Nothing is distinguishable from the untouched policy" in outcome.out
    assert {trial.name: contents(trial) for trial in sweep.glob("beta=*")} == before
    assert not list(sweep.glob("beta=*/log.txt"))  # no trial was started
    assert rlhf("report", str(sweep)).code == 0


def test_a_killed_trial_of_a_sweep_is_continued(forked: Rlhf, sweep: Path) -> None:
    trial = sorted(sweep.glob("beta=*"))[0]
    stop_at(trial, 2)
    (trial / "trial.json").unlink()
    outcome = forked("train", *command_of(sweep))
    assert outcome.code == 0, outcome.err
    log = (trial / "log.txt").read_text()
    assert "resumed from step 2" in log
    assert_same(trial, FIXTURES / "sweep" / trial.name, log)


def command_of(sweep: Path) -> list[str]:
    """The arguments of the command that began the sweep, in the folder beside it."""
    command: str = json.loads((sweep / "sweep.json").read_text())["command"]
    return command.replace("'", "").split()[2:]
