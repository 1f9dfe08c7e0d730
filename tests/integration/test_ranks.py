"""A run on several processes writes the bytes of the run on one, and ends in order where one of them fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlhf_cli.engine.cpu import SpareThreads
from rlhf_cli.engine.kernels import is_faster_packed
from rlhf_cli.pipeline import assemble
from rlhf_cli.ranks import team
from rlhf_cli.sweep.record import SweepRecord
from tests.processes import children, go_on_after_a_loss, start, start_on_two
from tests.support import QUICK, Outcome, contents, gone

Rlhf = Callable[..., Outcome]

invariant = pytest.mark.skipif(not is_faster_packed(torch.ones(8, 8)), reason="invariance is promised on an AMD CPU")

DEALT = (*QUICK, "prompts_per_step=4", "checkpoint.every=1", "evaluate.every=2", "threads=1")
"""A run of up to four shards."""
LONG = {
    "train": ("train", *DEALT, "steps=500"),
    "sft": ("sft", "config=tiny", "model.layers=1", "checkpoint.every=1", "display=quiet", "threads=1", "steps=5000"),
}
"""A run of each kind of training that does not end by itself."""
VARIANTS = {
    "reinforce": ("algorithm=reinforce",),
    "rloo": ("kl=exact", "top_p=0.9", "beta=adaptive", "reward.normalise=true"),
    "grpo": ("algorithm=grpo", "prompts=headroom", "kl=loss_k2", "model.lora.dropout=0.1"),
    "ppo": ("algorithm=ppo", "algorithm.minibatch_size=6"),
    "few rows": ("algorithm=ppo", "algorithm.minibatch_size=2"),
    "masked": ("prompts=headroom", "reward=python", "reward.function=rewards.py:score", "reward.on_error=mask"),
    "dynamic": ("prompts=dynamic", "samples_per_prompt=2", "reward.clip=[0,0.01]"),
    "gpt2": ("algorithm=rloo", "model.architecture=gpt2"),
}
INVARIANT = {name: VARIANTS[name] for name in ("reinforce", "rloo", "masked", "dynamic")} | {
    "grpo": ("algorithm=grpo", "kl=loss_k2"),
}
REWARD = """
def score(prompts, completions):
    return [None if len(p) % 3 == 0 else float(len(c)) for p, c in zip(prompts, completions)]
"""


@pytest.fixture
def one(rlhf: Rlhf, tmp_path: Path) -> dict[str, bytes]:
    """The files of one process after four steps of four shards."""
    outcome = rlhf("train", *DEALT, "steps=4", "shards=4", "run_dir=one")
    assert outcome.code == 0, outcome.err
    return contents(tmp_path / "one")


def test_two_processes_write_the_bytes_of_one(rlhf: Rlhf, forked: Rlhf, tmp_path: Path) -> None:
    common = (*QUICK, "steps=2", "evaluate.every=2", "shards=2", "threads=1", "algorithm=ppo", "algorithm.whiten=false")
    common = (*common, "prompts=headroom", "prompts_per_step=4")
    assert rlhf("train", *common, "run_dir=one").code == 0
    outcome = forked("train", *common, "run_dir=two", "processes=2")
    assert outcome.code == 0, outcome.err
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert (tmp_path / "two" / "ranks" / "1.log").read_text() == ""


@invariant
@pytest.mark.parametrize("variant", ["ppo", *(pytest.param(name, marks=pytest.mark.slow) for name in INVARIANT)])
def test_an_invariant_run_writes_the_same_bytes_however_it_is_divided(
    variant: str, rlhf: Rlhf, forked: Rlhf, tmp_path: Path
) -> None:
    (tmp_path / "rewards.py").write_text(REWARD)
    sizes = ("prompts_per_step=10", "samples_per_prompt=2", "steps=2", "evaluate.every=2", "invariant=true")
    common = (*QUICK, *sizes, *(VARIANTS | INVARIANT)[variant])
    assert rlhf("train", *common, "threads=1", "run_dir=one").code == 0
    threads = 1 if variant == "ppo" else 2  # barriers take long on a busy machine
    assert rlhf("train", *common, f"threads={threads}", "shards=3", "microbatch_size=6", "run_dir=two").code == 0
    outcome = forked("train", *common, "threads=1", "processes=2", "microbatch_size=7", "run_dir=three")
    assert outcome.code == 0, outcome.err
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert contents(tmp_path / "three") == contents(tmp_path / "one")


@pytest.mark.slow
@invariant
def test_the_embedded_model_has_the_same_bytes_with_one_thread_and_with_two(rlhf: Rlhf, tmp_path: Path) -> None:
    """Its layers are wide enough for products that are summed otherwise with two threads, or in a single row."""
    sizes = ("steps=2", "prompts_per_step=5", "samples_per_prompt=2", "max_new_tokens=6", "evaluate.prompts=3")
    for threads in (1, 2):
        common = (*sizes, "evaluate.samples=2", "display=quiet", f"threads={threads}", f"run_dir={threads}")
        assert rlhf("train", *common).code == 0
        assert '"invariant": true' in (tmp_path / str(threads) / "run.json").read_text()
    assert contents(tmp_path / "2") == contents(tmp_path / "1")


@invariant
def test_a_run_that_makes_room_for_other_programs_writes_the_same_bytes(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rlhf("train", *QUICK, "threads=1", "run_dir=one").code == 0
    seen: list[int] = []

    class Restless(SpareThreads):
        def adapt(self) -> None:
            torch.set_num_threads(3 - torch.get_num_threads())
            seen.append(torch.get_num_threads())

    monkeypatch.setattr(team, "THREADS", 2)
    monkeypatch.setattr(assemble, "spare_threads", Restless)
    assert rlhf("train", *QUICK, "threads=null", "run_dir=two").code == 0
    assert set(seen) == {1, 2}
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    seen.clear()
    assert rlhf("train", *QUICK, "threads=2", "run_dir=three").code == 0
    assert rlhf("train", *QUICK, "threads=null", "invariant=false", "run_dir=four").code == 0
    assert not seen, "a number that was asked for stays, and one that the bits depend on"


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_number_of_processes_is_part_of_no_result(variant: str, rlhf: Rlhf, forked: Rlhf, tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text(REWARD)
    common = (*DEALT, *VARIANTS[variant], "steps=3", "shards=4")
    assert rlhf("train", *common, "run_dir=one").code == 0
    for count in (2, 4):
        outcome = forked("train", *common, f"run_dir={count}", f"processes={count}")
        assert outcome.code == 0, outcome.err
        assert contents(tmp_path / str(count)) == contents(tmp_path / "one")


@pytest.mark.slow
def test_a_run_resumes_on_other_numbers_of_processes(forked: Rlhf, one: dict[str, bytes], tmp_path: Path) -> None:
    assert forked("train", *DEALT, "steps=4", "shards=4", "run_dir=two", "processes=4").code == 0
    assert contents(tmp_path / "two") == one
    for step, count in ((1, 1), (2, 3), (3, 2)):
        outcome = forked("train", f"resume=two/checkpoints/step-{step:08d}", f"processes={count}", "display=plain")
        assert outcome.code == 0, outcome.err
        assert f"resumed from step {step}" in outcome.err
        assert "not bit for bit" not in outcome.err
        assert contents(tmp_path / "two") == one


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
    number: int, said: str, within_s: float, forked: Rlhf, one: dict[str, bytes], tmp_path: Path
) -> None:
    process, other = start_on_two(*LONG["train"], cwd=tmp_path)
    os.kill(other, number)
    adapter = go_on_after_a_loss(process, other, said, "train", forked, tmp_path / "two", within_s)
    assert adapter == one["adapter/adapter_model.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("verb", LONG)
def test_no_process_outlives_the_first(verb: str, tmp_path: Path) -> None:
    process, other = start_on_two(*LONG[verb], cwd=tmp_path)
    process.kill()
    process.communicate(timeout=20)
    assert gone(other)


@pytest.mark.slow
@pytest.mark.parametrize("verb", LONG)
def test_ctrl_c_saves_and_ends_all(verb: str, tmp_path: Path) -> None:
    process, other = start_on_two(*LONG[verb], cwd=tmp_path)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 75, err
    assert "stopped: Ctrl-C" in err
    assert gone(other)


@pytest.mark.slow
def test_a_reward_that_raises_ends_all_as_on_one_process(tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text(
        "calls = 0\n\ndef score(completions):\n    global calls\n    calls += 1\n"
        "    if calls > 6:\n        raise ValueError('no more')\n    return [float(len(c)) for c in completions]\n"
    )
    argv = ("reward=python", "reward.function=rewards.py:score", "reward.retries=0", "evaluate.every=0")
    process = start("train", *DEALT, "steps=500", "shards=4", "processes=2", "run_dir=two", *argv, cwd=tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 4, err
    assert "no more" in err
    assert children(process.pid) == []


@pytest.mark.slow
def test_a_process_that_does_not_start_ends_the_run_and_its_log_says_why(tmp_path: Path) -> None:
    broken = """
import os
import rlhf_cli.ranks.worker as worker
def serve(rank, size, duties):
    raise OSError("no room for rank 1")
worker.serve = serve
"""
    process = start("train", *DEALT, "shards=2", "processes=2", "run_dir=two", cwd=tmp_path, before=broken)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopped: rank 1 ended with exit code" in err
    assert "no room for rank 1" in (tmp_path / "two" / "ranks" / "1.log").read_text()
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["ranks"]


BROKEN = """
import os
from rlhf_cli.ranks import shards
real = shards.measure_distance
def measure_distance(rollout, engine, size, *rest, **options):
    if os.environ.get("RANK") == "1" and {when}:
        raise RuntimeError("{what}")
    return real(rollout, engine, size, *rest, **options)
shards.measure_distance = measure_distance
"""


@pytest.mark.slow
def test_a_process_with_another_model_ends_the_run_before_its_first_step(tmp_path: Path) -> None:
    """As where a host has another revision of the model in its cache."""
    before = """
import os
from rlhf_cli.models import policy
real = policy.weights_fingerprint
policy.weights_fingerprint = lambda weights: "other" if os.environ.get("RANK") == "1" else real(weights)
"""
    process = start("train", *DEALT, "shards=2", "processes=2", "run_dir=two", cwd=tmp_path, before=before)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert "error: rank 1 has another model (model); fix: give all hosts the same files" in err
    assert not (tmp_path / "two" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_a_bug_in_another_process_is_shown_with_its_rank(tmp_path: Path) -> None:
    before = BROKEN.format(when="True", what="a bug")
    process = start("train", *DEALT, "shards=4", "processes=2", "run_dir=two", cwd=tmp_path, before=before)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "RankFailed: rank 1 failed:" in err
    assert "RuntimeError: a bug" in err


@pytest.mark.slow
def test_a_process_out_of_memory_halves_the_microbatches_of_all(tmp_path: Path) -> None:
    before = BROKEN.format(when="size > 2", what="can't allocate memory: 9 bytes")
    argv = (*DEALT, "steps=1", "microbatch_size=4", "shards=4", "processes=2", "run_dir=two", "display=plain")
    process = start("train", *argv, cwd=tmp_path, before=before)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "out of memory: microbatches of 2 completions from here on, not of 4" in err


@pytest.mark.slow
def test_torchrun_starts_the_processes_as_well(one: dict[str, bytes], tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "rlhf_cli"]
    command = [*torchrun, "train", *DEALT, "steps=4", "shards=4", "run_dir=two"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "two") == one


@pytest.mark.slow
def test_a_sweep_of_trials_on_two_processes(rlhf: Rlhf, forked: Rlhf, tmp_path: Path) -> None:
    common = (*DEALT, "steps=2", "shards=2")
    outcome = forked("train", *common, "processes=2", "sweep_dir=sweep", "-m", "beta=0.01,0.1")
    assert outcome.code == 0, outcome.err
    assert rlhf("train", *common, "beta=0.1", "run_dir=one").code == 0
    sweep = SweepRecord.read(tmp_path / "sweep")
    assert sweep is not None
    (trial,) = (sweep.path(trial) for trial in sweep.trials if "0.1" in trial.told.values())
    assert contents(trial) == contents(tmp_path / "one")
