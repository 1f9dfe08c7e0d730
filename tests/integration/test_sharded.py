"""A run whose base model is sharded over its processes is the run with a whole one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import children, go_on_after_a_loss, start, start_on_two
from tests.support import QUICK, Outcome, contents, gone

Rlhf = Callable[..., Outcome]

DEALT = (
    *QUICK,
    "model.layers=2",
    "steps=3",
    "prompts_per_step=4",
    "max_new_tokens=6",
    "checkpoint.every=1",
    "threads=1",
)
LONG = ("train", *DEALT, "shard_model=true", "steps=500")
SHARDED = (*DEALT, "shards=4", "processes=2", "shard_model=true")
VARIANTS = {
    "ends at other tokens": ("model.stop=[a,b,c,d,e,f]", "max_new_tokens=12"),
    "tied weights": ("model.architecture=gpt2", "kl=exact", "top_p=0.9"),
    "ppo": ("algorithm=ppo", "algorithm.minibatch_size=2", "algorithm.epochs=2"),
    "less memory": ("model.gradient_checkpointing=true", "model.lora.dropout=0.1", "microbatch_size=1"),
    "dora": ("model.lora.dora=true", "algorithm=grpo", "kl=loss_k2"),
    "bfloat16": ("dtype=bfloat16",),
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sharded_run_writes_the_bytes_of_a_whole_one(variant: str, rlhf: Rlhf, forked: Rlhf, tmp_path: Path) -> None:
    assert rlhf("train", *DEALT, "shards=4", "model.engine=transformers", *VARIANTS[variant], "run_dir=one").code == 0
    outcome = forked("train", *SHARDED, *VARIANTS[variant], "run_dir=two")
    assert outcome.code == 0, outcome.err
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "two")]
    assert records[0]["model"] == records[1]["model"]
    assert (tmp_path / "two" / "ranks" / "1.log").read_text() == ""


@pytest.mark.slow
def test_a_run_resumes_sharded_and_whole(rlhf: Rlhf, forked: Rlhf, tmp_path: Path) -> None:
    assert rlhf("train", *DEALT, "shards=4", "model.engine=transformers", "run_dir=one").code == 0
    whole = contents(tmp_path / "one")
    for settings in (("processes=3", "shard_model=true"), ("processes=1", "shard_model=false")):
        outcome = forked("train", "resume=one/checkpoints/step-00000001", *settings, "display=plain")
        assert outcome.code == 0, outcome.err
        assert "not bit for bit" not in outcome.err
        assert contents(tmp_path / "one") == whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "said", "within_s"),
    [
        (signal.SIGKILL, "stopped: rank 1 was killed by SIGKILL, most likely for want of memory", 20),
        (signal.SIGSTOP, "stopped: rank 1 gave no sign of life for 30 s", 60),
    ],
    ids=["killed", "stopped"],
)
def test_a_lost_process_ends_the_run_and_it_goes_on(
    number: int, said: str, within_s: float, forked: Rlhf, tmp_path: Path
) -> None:
    process, other = start_on_two(*LONG, cwd=tmp_path)
    os.kill(other, number)
    adapter = go_on_after_a_loss(process, other, said, "train", forked, tmp_path / "two", within_s)
    assert forked("train", *SHARDED, "steps=4", "run_dir=one").code == 0
    assert adapter == contents(tmp_path / "one")["adapter/adapter_model.safetensors"]


@pytest.mark.slow
def test_ctrl_c_saves_and_ends_all(tmp_path: Path) -> None:
    process, other = start_on_two(*LONG, cwd=tmp_path)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 75, err
    assert "stopped: Ctrl-C" in err
    assert gone(other)


BROKEN = """
import os
from rlhf_cli.ranks import {module}
real = {module}.{name}
def broken(*given, **options):
    if os.environ.get("RANK", "0") == "{rank}" and {when}:
        raise RuntimeError("{what}")
    return real(*given, **options)
{module}.{name} = broken
"""
MEMORY = "can't allocate memory: 9 bytes"


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_out_of_memory_between_passes_halves_the_microbatches_of_all(rank: int, tmp_path: Path) -> None:
    before = BROKEN.format(
        module="gradient", name="read_logprobs", rank=rank, when="len(given[1]) > 2", what=MEMORY
    )  # behind the pass of the completions
    argv = (*SHARDED, "steps=1", "microbatch_size=4", "run_dir=two", "display=plain")
    process = start("train", *argv, cwd=tmp_path, before=before)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "out of memory: microbatches of 2 completions from here on, not of 4" in err


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_out_of_memory_in_a_pass_ends_the_run(rank: int, tmp_path: Path) -> None:
    before = f"""
import os
from transformers.models.llama.modeling_llama import LlamaMLP
real, passes = LlamaMLP.forward, 0
def forward(self, x):
    global passes
    passes += 1
    if os.environ.get("RANK", "0") == "{rank}" and passes > 60:
        raise RuntimeError("{MEMORY}")
    return real(self, x)
LlamaMLP.forward = forward
"""
    process = start("train", *SHARDED, "run_dir=two", cwd=tmp_path, before=before)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 75, err
    assert f"rank {rank} ran out of memory in a pass of the sharded model" in err
    assert children(process.pid) == []


@pytest.mark.slow
def test_a_bug_in_another_process_is_shown_with_its_rank(tmp_path: Path) -> None:
    before = BROKEN.format(module="shards", name="measure_distance", rank=1, when="True", what="a bug")
    process = start("train", *SHARDED, "run_dir=two", cwd=tmp_path, before=before)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "RankFailed: rank 1 failed:" in err
    assert "RuntimeError: a bug" in err


@pytest.mark.slow
def test_torchrun_starts_the_processes_as_well(rlhf: Rlhf, tmp_path: Path) -> None:
    assert rlhf("train", *DEALT, "shards=4", "model.engine=transformers", "run_dir=one").code == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "rlhf_cli"]
    command = [*torchrun, "train", *DEALT, "shards=4", "shard_model=true", "run_dir=two"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
