"""A run of sft, dpo or reward train on several processes writes the bytes of the run on one, and ends in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.processes import Process, start
from tests.support import Outcome, gone, lines

Rlhf = Callable[..., Outcome]

DEALT: Final = (
    "config=tiny", "model.layers=1", "steps=4", "prompts_per_step=6", "evaluate.every=2", "evaluate.prompts=6",
    "checkpoint.every=1", "checkpoint.keep=9", "sinks=[]", "display=quiet", "threads=1", "optimizer.schedule=constant",
)  # fmt: skip
"""A run of up to six shards."""
VARIANTS: Final = {
    "sft": ("sft", "model.lora.dropout=0.1"),
    "gpt2": ("sft", "model.architecture=gpt2", "microbatch_size=2"),
    "dpo": ("dpo", "microbatch_size=3"),
    "reward": ("reward", "train", "model.lora.dropout=0.1", "patience=9"),
}
EXACT: Final = ("metrics.jsonl", "evaluations.jsonl", "result.json", "adapter/adapter_model.safetensors")


def contents(folder: Path) -> dict[str, bytes]:
    """The repeatable files of a run, and the reward model's."""
    files = [*(folder / name for name in EXACT), *sorted((folder / "reward_model").rglob("*"))]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture
def one(rlhf: Rlhf, tmp_path: Path) -> dict[str, bytes]:
    """The files of one process after four steps of sft on four shards."""
    outcome = rlhf("sft", *DEALT, "shards=4", "run_dir=one")
    assert outcome.code == 0, outcome.err
    return contents(tmp_path / "one")


def start_and_wait(tmp_path: Path) -> tuple[Process, int]:
    """A run of many steps of sft on two processes that has completed one, and the other process."""
    argv = ("sft", *DEALT, "steps=5000", "shards=4", "processes=2", "run_dir=two")
    process, metrics = start(*argv, cwd=tmp_path), tmp_path / "two" / "metrics.jsonl"
    until = time.monotonic() + 120
    while not (metrics.is_file() and len(lines(metrics)) > 2):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.05)
    listed = ["ps", "-o", "pid=", "--ppid", str(process.pid)]
    shown = subprocess.run(listed, capture_output=True, text=True, check=False)
    (other,) = map(int, shown.stdout.split())
    return process, other


def test_two_processes_write_the_bytes_of_one(forked: Rlhf, one: dict[str, bytes], tmp_path: Path) -> None:
    outcome = forked("sft", *DEALT, "shards=4", "processes=2", "run_dir=two")
    assert outcome.code == 0, outcome.err
    assert contents(tmp_path / "two") == one
    assert (tmp_path / "two" / "ranks" / "1.log").read_text() == ""


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_number_of_processes_is_part_of_no_result(variant: str, rlhf: Rlhf, forked: Rlhf, tmp_path: Path) -> None:
    command = (*VARIANTS[variant], *DEALT, "shards=4")
    assert rlhf(*command, "run_dir=1").code == 0
    assert ("reward_model/model.safetensors" in contents(tmp_path / "1")) == (variant == "reward")
    for count in (2, 4):
        outcome = forked(*command, f"run_dir={count}", f"processes={count}")
        assert outcome.code == 0, outcome.err
        assert contents(tmp_path / str(count)) == contents(tmp_path / "1")
        assert all(not log.read_text() for log in (tmp_path / str(count) / "ranks").iterdir())


@pytest.mark.slow
def test_a_run_resumes_on_other_numbers_of_processes(forked: Rlhf, one: dict[str, bytes], tmp_path: Path) -> None:
    assert forked("sft", *DEALT, "shards=4", "run_dir=two", "processes=2").code == 0
    for step, count in ((2, 1), (1, 3), (3, 2)):
        outcome = forked("sft", f"resume=two/checkpoints/step-{step:08d}", f"processes={count}", "display=plain")
        assert outcome.code == 0, outcome.err
        assert f"resumed from step {step}" in outcome.err
        assert "not bit for bit" not in outcome.err
        assert contents(tmp_path / "two") == one


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_it_goes_on(forked: Rlhf, one: dict[str, bytes], tmp_path: Path) -> None:
    process, other = start_and_wait(tmp_path)
    os.kill(other, signal.SIGKILL)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 75, err
    assert "stopped: rank 1 was killed by SIGKILL, most likely for want of memory" in err
    assert "continue it by: rlhf sft resume=" in err
    assert gone(other)
    earliest = min((tmp_path / "two" / "checkpoints").glob("step-*"))
    outcome = forked("sft", f"resume={earliest}", "steps=4")
    assert outcome.code == 0, outcome.err
    adapter = "adapter/adapter_model.safetensors"
    assert contents(tmp_path / "two")[adapter] == one[adapter]


@pytest.mark.slow
def test_ctrl_c_saves_and_ends_all(tmp_path: Path) -> None:
    process, other = start_and_wait(tmp_path)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 75, err
    assert "stopped: Ctrl-C" in err
    assert gone(other)


@pytest.mark.slow
def test_no_process_outlives_the_first(tmp_path: Path) -> None:
    process, other = start_and_wait(tmp_path)
    process.kill()
    process.communicate(timeout=20)
    assert gone(other)


@pytest.mark.slow
def test_torchrun_starts_the_processes_as_well(one: dict[str, bytes], tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "rlhf_cli"]
    command = [*torchrun, "sft", *DEALT, "shards=4", "run_dir=two"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "two") == one


@pytest.mark.slow
def test_torchrun_starts_those_of_reward_train(rlhf: Rlhf, tmp_path: Path) -> None:
    """Its verb has two words."""
    assert rlhf("reward", "train", *DEALT, "shards=2", "run_dir=one").code == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "rlhf_cli"]
    command = [*torchrun, "reward", "train", *DEALT, "shards=2", "run_dir=two"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
