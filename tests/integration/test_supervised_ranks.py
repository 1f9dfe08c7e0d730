"""A run of sft, dpo or reward train on several processes writes the bytes of the run on one, and ends in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.processes import go_on_after_a_loss, start_on_two
from tests.support import Outcome

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
    process, other = start_on_two("sft", *DEALT, "steps=5000", cwd=tmp_path)
    os.kill(other, signal.SIGKILL)
    said = "stopped: rank 1 was killed by SIGKILL, most likely for want of memory"
    adapter = go_on_after_a_loss(process, other, said, "sft", forked, tmp_path / "two", 20)
    assert adapter == one["adapter/adapter_model.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["sft", "reward train"])
def test_torchrun_starts_the_processes_as_well(verb: str, rlhf: Rlhf, tmp_path: Path) -> None:
    """Also where the verb has two words."""
    command = (*verb.split(), *DEALT, "shards=2")
    assert rlhf(*command, "run_dir=one").code == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "rlhf_cli"]
    argv = [*torchrun, *command, "run_dir=two"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
