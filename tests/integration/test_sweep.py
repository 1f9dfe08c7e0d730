"""Whole sweeps: a process for each trial, failures of their own, and the same command again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.commands.parts import sweeping
from rlhf_cli.runs.lock import hold
from rlhf_cli.sweep.record import Ending, SweepRecord
from tests.processes import Process, start
from tests.support import QUICK, Outcome, contents, gone, lines

Rlhf = Callable[..., Outcome]

SMALL = ("config=tiny", "model.layers=1", "prompts_per_step=2", "samples_per_prompt=2", "max_new_tokens=4")
LONG = ("config=tiny", "steps=100000", "evaluate.every=0", "sweep_dir=s", "-m", "seed=0,1")
"""A sweep that has to be stopped."""


def trials(folder: Path) -> dict[str, Path]:
    """The folders of the trials by what tells them apart."""
    sweep = SweepRecord.read(folder)
    assert sweep is not None
    return {",".join(f"{key}={value}" for key, value in one.told.items()): sweep.path(one) for one in sweep.trials}


def wait_for(happened: Callable[[], bool], process: Process, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def steps_done(trial: Path) -> int:
    file = trial / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def test_the_same_command_finds_its_folder_and_leaves_alone_what_is_done(forked: Rlhf, tmp_path: Path) -> None:
    sweep = (*SMALL, "evaluate.every=0", "-m", "seed=0,1")
    first = forked("train", *sweep, "steps=1")
    assert first.code == 0, first.err
    assert "trial 2 of 2 (seed=1) finished: J " in first.err
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert folder.name.startswith("tiny-")
    before = {path: path.read_bytes() for path in folder.rglob("*.jsonl")}
    again = forked("train", *sweep, "steps=1")
    assert again.code == 0, again.err
    assert again.err.count("finished before") == 2
    assert {path: path.read_bytes() for path in folder.rglob("*.jsonl")} == before
    # more steps: the same trials go on
    assert forked("train", *sweep, "steps=2").code == 0
    assert [*folder.parent.iterdir()] == [folder]
    assert [len(lines(trial / "metrics.jsonl")) for trial in trials(folder).values()] == [2, 2]


def test_a_file_may_ask_for_a_sweep_whose_points_seeds_replicate(forked: Rlhf, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "defaults: tiny\nsteps: 1\nevaluate: {every: 0}\nseeds: 2\n"
        "hydra: {mode: MULTIRUN, sweeper: {params: {beta: '0.1'}}}\n"
    )
    outcome = forked("train", "config=./mine.yaml", *SMALL[1:], "seed=5", "sweep_dir=s")
    assert outcome.code == 0, outcome.err
    configs = [json.loads((trial / "config.json").read_text()) for trial in trials(tmp_path / "s").values()]
    assert [(one["beta"]["value"], one["seed"]) for one in configs] == [(0.1, 5), (0.1, 6)]
    assert [*trials(tmp_path / "s")] == ["seed=5", "seed=6"]
    assert all((trial / "mine.yaml").is_file() for trial in trials(tmp_path / "s").values())


REWARD = """
import os, signal

def good(prompts, completions, **columns):
    return [float(len(text)) for text in completions]

def raises(prompts, completions, **columns):
    raise KeyError("gold")

def needs(prompts, completions, gold):
    return []  # the data has no such column: it is refused before the model is loaded

def killed(prompts, completions, **columns):
    os.kill(os.getppid(), signal.SIGKILL)
"""


def test_failures_are_named_with_their_logs_and_only_they_are_tried_again(forked: Rlhf, tmp_path: Path) -> None:
    reward = tmp_path / "r.py"
    reward.write_text(REWARD)
    functions = ",".join(f"{reward}:{name}" for name in ("good", "raises", "killed"))
    sweep = (*SMALL, "steps=1", "evaluate.every=0", "reward=python", "sweep_dir=s", "-m")
    outcome = forked("train", *sweep, f"reward.function={functions}")
    assert outcome.code == 8
    found = [line for line in outcome.err.splitlines() if " failed: " in line and line.startswith("trial")]
    assert [line.split(" ", 4)[1] for line in found] == ["2", "3"]
    assert "KeyError" in found[0]
    assert "killed by SIGKILL, most likely for want of memory" in found[1]
    names, folders = zip(*trials(tmp_path / "s").items(), strict=True)
    assert names == tuple(f"reward.function=r.py:{name}" for name in ("good", "raises", "killed"))
    for line, folder in zip(found, folders[1:], strict=True):
        log = tmp_path / line.split("its log: ")[1]
        assert log == folder / "log.txt"
        assert log.is_file()
    assert "2 of 3 trials failed" in outcome.err.splitlines()[-1]
    before = contents_of(folders[0])
    reward.write_text(REWARD.replace('raise KeyError("gold")', "return [1.0] * len(prompts)"))
    again = forked("train", *sweep, f"reward.function={functions}", "resume_allow=[reward]")
    assert again.code == 8
    assert "1 of 3 trials failed" in again.err
    assert contents_of(folders[0]) == before
    assert Ending.read(folders[1]) == Ending(0, "")


def contents_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_it_ends_with_an_answer_on_stdout_and_as_a_page(forked: Rlhf, tmp_path: Path) -> None:
    reward = tmp_path / "r.py"
    reward.write_text(REWARD)
    functions = ",".join(f"{reward}:{name}" for name in ("good", "needs"))
    few = ("steps=1", "evaluate.every=1", "evaluate.prompts=4", "evaluate.samples=2")
    sweep = (*SMALL, *few, "reward=python", "sweep_dir=s", "-m")
    outcome = forked("train", *sweep, f"reward.function={functions}", "seed=0,1")
    assert outcome.code == 8
    assert "Nothing is distinguishable from the untouched policy" in outcome.out
    assert outcome.out.count("left out: ") == 2
    page = (tmp_path / "s" / "report.html").read_text(encoding="utf-8")
    assert "Nothing is distinguishable from the untouched policy" in page
    again = forked("train", *sweep, f"reward.function={functions}", "seed=0,1", "display=json")
    *told, answered = map(json.loads, again.out.splitlines())
    assert [one["state"] for one in told] == ["finished", "finished", "failed", "failed"]
    (point,) = answered["points"]
    # what the answer says of the trials is what they say of themselves
    results = [json.loads((path / "result.json").read_text()) for path in [*trials(tmp_path / "s").values()][:2]]
    after = [result["comparison"]["after"] for result in results]
    for name in ("reward", "kl", "objective", "length"):
        assert point[name]["mean"] == pytest.approx((after[0][name]["mean"] + after[1][name]["mean"]) / 2)


def test_settings_that_change_between_are_never_mixed(forked: Rlhf, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("defaults: tiny\nsteps: 1\nevaluate: {every: 0}\noptimizer: {lr: 0.01}\n")
    sweep = ("config=./mine.yaml", *SMALL[1:], "-m", "seed=0", "sweep_dir=s")
    assert forked("train", *sweep).code == 0
    file.write_text(file.read_text().replace("0.01", "0.02"))
    again = forked("train", *sweep)  # the folder is the same, and its runs are others
    assert again.code == 8
    assert again.err.count("the resumed run would not be the same: optimizer.lr: 0.01 -> 0.02") == 1


def test_a_trial_refuses_settings_that_its_sweep_has_not_checked(rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLHF_SETTINGS", "others")
    outcome = rlhf("train", "config=tiny", "steps=1")
    assert outcome.code == 2
    assert "the settings are not those that the sweep began with" in outcome.err


def test_what_lies_in_the_working_directory_is_not_run(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial's process has read its settings, YAML and all, when it refuses them: that is quicker than a run."""
    (tmp_path / "yaml.py").write_text("raise SystemExit('run from the working directory')\n")
    monkeypatch.setattr(sweeping, "fingerprint", lambda config: "of other settings")
    outcome = rlhf("train", *SMALL, "steps=1", "evaluate.every=0", "-m", "seed=0", "sweep_dir=s")
    assert outcome.code == 8
    assert "the settings are not those that the sweep began with" in outcome.err


def test_one_sweep_at_a_time_in_a_folder(rlhf: Rlhf, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with hold(tmp_path / "s"):
        outcome = rlhf("train", "config=tiny", "-m", "seed=0,1", "sweep_dir=s")
    assert outcome.code == 2
    assert "another process is working in this folder of a sweep" in outcome.err
    assert outcome.err.rstrip().endswith("fix: wait for it, or give another sweep_dir")


def test_killed_with_a_trial_and_started_again_every_point_is_done_once(tmp_path: Path) -> None:
    command = ("train", *QUICK, "-m", "beta=0.02,0.2")
    undisturbed = start(*command, "sweep_dir=whole", cwd=tmp_path)
    out, said = undisturbed.communicate()
    assert (undisturbed.returncode, out) == (0, ""), said  # display=quiet: no answer
    process = start(*command, "sweep_dir=s", cwd=tmp_path)
    wait_for(lambda: (tmp_path / "s" / "sweep.json").is_file(), process)
    second = [*trials(tmp_path / "s").values()][1]
    wait_for(lambda: steps_done(second) >= 4, process)
    (trial,) = children(process.pid)
    os.kill(trial, signal.SIGKILL)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert gone(trial)
    assert steps_done(second) < 7
    again = start(*command, "sweep_dir=s", cwd=tmp_path)
    _, said = again.communicate()
    assert again.returncode == 0, said
    for name, folder in trials(tmp_path / "s").items():
        assert contents(folder) == contents(trials(tmp_path / "whole")[name])


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [*map(int, found.stdout.split())]


def test_a_trial_does_not_outlive_its_sweep(tmp_path: Path) -> None:
    process = start("train", *LONG, cwd=tmp_path)
    wait_for(lambda: (tmp_path / "s" / "sweep.json").is_file(), process)
    first, _ = trials(tmp_path / "s").values()
    wait_for(lambda: steps_done(first) >= 2, process)
    (trial,) = children(process.pid)
    process.kill()
    process.communicate()
    assert gone(trial)
    assert "stopped: the sweep that started it is gone" in (first / "log.txt").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_saves_its_trials(tmp_path: Path, number: int) -> None:
    process = start("train", *LONG, cwd=tmp_path)
    wait_for(lambda: (tmp_path / "s" / "sweep.json").is_file(), process)
    first, second = trials(tmp_path / "s").values()
    wait_for(lambda: steps_done(first) >= 2, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "The same command goes on with the trials that are not done." in said
    ending = Ending.read(first)
    assert ending is not None
    assert ending.exit_code == 75
    assert not second.exists()
