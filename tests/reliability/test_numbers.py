"""Numbers that overflow, and memory that runs out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rlhf_cli.cli import run
from rlhf_cli.pipeline import update
from tests.support import QUICK, Outcome, contents, lines

Rlhf = Callable[..., Outcome]


def spoilt(monkeypatch: pytest.MonkeyPatch, *calls: int) -> None:
    """Put NaN into the gradient of these updates of the process (0, 1, ...)."""
    plain, count = update.apply, iter(range(10**6))

    def apply(parameters: dict[str, torch.nn.Parameter], *given: Any) -> dict[str, float]:
        if next(count) in calls:
            gradient = next(iter(parameters.values())).grad
            assert gradient is not None
            gradient[0, 0] = torch.nan
        return plain(parameters, *given)

    monkeypatch.setattr(update, "apply", apply)


def overflowing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the first update of the process leave finite weights whose products are not."""
    plain, spoil = update.apply, iter([True])

    def apply(parameters: dict[str, torch.nn.Parameter], *given: Any) -> dict[str, float]:
        taken = plain(parameters, *given)
        if next(spoil, False):
            with torch.no_grad():
                for parameter in parameters.values():
                    parameter.fill_(1e38)
        return taken

    monkeypatch.setattr(update, "apply", apply)


@pytest.mark.case(43)
def test_a_step_that_is_not_finite_changes_nothing_and_is_kept_to_look_at(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt(monkeypatch, 2, 3)
    outcome = rlhf("train", *QUICK, "run_dir=out", "checkpoint.every=1", "evaluate.every=0")
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "out"
    assert [row["skipped"] for row in lines(folder / "metrics.jsonl")] == [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    assert f"step 3 changes nothing: the gradient is not finite: see {folder}/skipped/step-00000003" in outcome.err
    there = sorted(path.name for path in (folder / "checkpoints").glob("step-*"))
    assert there == [f"step-{step:08d}" for step in (0, 1, 2, 5, 6)]  # none while the trouble lasted
    batch = json.loads((folder / "skipped" / "step-00000004" / "batch.json").read_text())
    assert batch["step"] == 4
    assert batch["reason"] == "the gradient is not finite"
    assert len(batch["completions"]) == 8
    tensors = load_file(folder / "skipped" / "step-00000004" / "batch.safetensors")
    assert {name: len(tensor) for name, tensor in tensors.items()} == dict.fromkeys(
        ("tokens", "completion_mask", "logprobs", "ref_logprobs", "scores", "rewards", "advantages"), 8
    )


@pytest.mark.case(43)
@pytest.mark.parametrize("algorithm", ["rloo", "ppo"])
def test_too_many_in_a_row_end_the_run_with_the_last_finite_checkpoint(
    algorithm: str, rlhf: Rlhf, tmp_path: Path
) -> None:
    outcome = rlhf("train", *QUICK, "run_dir=out", "model.lora.alpha=1e38", f"algorithm={algorithm}")
    assert outcome.code == 7
    last = outcome.err.splitlines()[-1]
    assert " in step 4, and 4 steps in a row changed nothing: see " in last
    assert last.endswith("; newest valid checkpoint: step 0")
    folder = tmp_path / "out"
    assert [row["skipped"] for row in lines(folder / "metrics.jsonl")[1:]] == [1.0, 1.0, 1.0]
    assert sorted(path.name for path in (folder / "skipped").iterdir()) == [f"step-{n:08d}" for n in (1, 2, 3, 4)]
    (kept,) = (folder / "checkpoints").glob("step-*")
    for file in kept.glob("*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(file).values())


@pytest.mark.case(43)
def test_weights_that_make_no_finite_probabilities_are_undone(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finite weights of 1e38: the gradient was fine, and the next rollout would be NaN."""
    overflowing(monkeypatch)
    outcome = rlhf("train", *QUICK, "run_dir=out", "steps=2", "evaluate.every=0")
    assert outcome.code == 0, outcome.err
    assert "step 1 changes nothing: the policy's probabilities would not be finite" in outcome.err
    first, second = lines(tmp_path / "out" / "metrics.jsonl")
    assert (first["skipped"], second["skipped"]) == (1.0, 0.0)
    assert second["kl/seq"] == 0.0  # still the reference


@pytest.mark.case(43)
@pytest.mark.parametrize(
    "choice",
    [
        # an evaluation knows no algorithm, and an algorithm no evaluation
        "evaluate.every=1",
        "evaluate.samples=32",
        "evaluate.every=0",
        "evaluate.every=0 algorithm=grpo",
        "evaluate.every=0 algorithm=ppo algorithm.minibatch_size=null algorithm.epochs=1",
    ],
)
def test_a_policy_that_writes_nan_ends_in_one_line_too(
    choice: str, rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should an overflow ever get past the probe that follows an update."""
    overflowing(monkeypatch)
    monkeypatch.setattr(update, "check_finite", lambda *given: None)
    outcome = rlhf("train", *QUICK, "run_dir=out", *choice.split(), "beta=target")
    assert outcome.code == 7, outcome.err
    # an evaluation meets it first, where there is one
    what = "the gradient is not finite in step " if "every=0" in choice else "the KL of a held-out completion is not"
    assert outcome.err.splitlines()[-1].startswith(f"error: {what}")
    assert "Traceback" not in outcome.err


@pytest.mark.case(43)
def test_a_run_with_skipped_steps_resumes_exactly(rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as whole:
        spoilt(whole, 2)
        assert rlhf("train", *QUICK, "steps=4", "run_dir=whole").code == 0
    with monkeypatch.context() as first:
        spoilt(first, 2)
        assert rlhf("train", *QUICK, "steps=4", "run_dir=out", "max_skipped_steps=0").code == 7
    with monkeypatch.context() as second:
        spoilt(second, 0)  # the third step once more
        outcome = rlhf("train", "resume=out", "max_skipped_steps=3", "resume_allow=[max_skipped_steps]")
    assert outcome.code == 0, outcome.err
    assert "resumed from step 2" in outcome.err
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the comparison of the engine with the library, which reads and samples before the run begins."""
    monkeypatch.setattr("rlhf_cli.engine.choice.logit_difference", lambda policy, engine: 0.0)


class Memory:
    """Too small for more than `rows` completions at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: int, error: Exception) -> None:
        from rlhf_cli.engine.native import NativeEngine

        self.rows, self.error, self.sizes, self._plain = rows, error, list[int](), NativeEngine.hidden
        memory = self

        def hidden(self: NativeEngine, rollout: Any, rows: torch.Tensor, **given: Any) -> torch.Tensor:
            memory.sizes.append(len(rows))
            if len(rows) > memory.rows:
                raise memory.error
            return memory._plain(self, rollout, rows, **given)

        monkeypatch.setattr(NativeEngine, "hidden", hidden)
        unchecked(monkeypatch)


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
    MemoryError(),
]


ROOMY = (*QUICK, "steps=2", "evaluate.every=0", "microbatch_size=64", "samples_per_prompt=8")


@pytest.fixture(scope="module")
def plenty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with memory for all at once; leave it as it is."""
    folder = tmp_path_factory.mktemp("plenty") / "out"
    assert run(["train", *ROOMY, f"run_dir={folder}"]) == 0
    return folder


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_memory_that_runs_out_halves_the_microbatch_for_good(
    error: Exception, plenty: Path, rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as small:
        memory = Memory(small, 5, error)
        outcome = rlhf("train", *ROOMY, "run_dir=out")
    assert outcome.code == 0, outcome.err
    said = [line for line in outcome.err.splitlines() if "out of memory" in line]
    assert said == [  # 64 -> 32 -> 16 all hold the 16 completions; 8 is too many, 4 fits
        f"note: out of memory: microbatches of {n} completions from here on, not of {2 * n}" for n in (32, 16, 8, 4)
    ]
    assert max(memory.sizes[memory.sizes.index(4) :]) == 4
    state = json.loads((tmp_path / "out" / "checkpoints" / "step-00000002" / "state.json").read_text())
    assert state["microbatch_size"] == 4
    with monkeypatch.context() as again:
        memory = Memory(again, 5, error)
        assert rlhf("train", "resume=out", "steps=3").code == 0
    assert max(memory.sizes) == 4  # remembered
    ours, theirs = (lines(folder / "metrics.jsonl") for folder in (tmp_path / "out", plenty))
    for mine, other in zip(ours, theirs, strict=False):  # the same gradient
        assert mine["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-2, abs=1e-4)


def test_memory_that_runs_out_in_the_middle_of_a_gradient_counts_nothing_twice(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_cli.engine.native import NativeEngine

    short = (*QUICK, "steps=1", "evaluate.every=0", "microbatch_size=4", "samples_per_prompt=8")
    assert rlhf("train", *short, "run_dir=plenty").code == 0
    plain, count = NativeEngine.hidden, iter(range(10**6))

    def hidden(self: NativeEngine, rollout: Any, rows: torch.Tensor, **given: Any) -> torch.Tensor:
        if next(count) == 10:  # trainer and reference read 4 x 4 completions each, the update is at its third 4
            raise ERRORS[0]
        return plain(self, rollout, rows, **given)

    with monkeypatch.context() as once:
        once.setattr(NativeEngine, "hidden", hidden)
        unchecked(once)
        outcome = rlhf("train", *short, "run_dir=out")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("out of memory: microbatches of 2 completions") == 1
    (mine,), (other,) = (lines(tmp_path / name / "metrics.jsonl") for name in ("out", "plenty"))
    for name in ("grad_norm", "loss", "sampler/gap", "kl/seq"):
        assert mine[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5)


def test_memory_too_small_for_one_completion_ends_the_run(rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch) -> None:

    with monkeypatch.context() as none:
        Memory(none, 0, ERRORS[0])
        outcome = rlhf("train", *QUICK, "run_dir=out")
    assert outcome.code == 2
    assert "error: out of memory with one completion at a time (microbatch_size); fix: lower" in outcome.err
    assert outcome.err.splitlines()[-1].endswith("newest valid checkpoint: step 0")


def test_a_rollout_that_does_not_fit_is_one_line(rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlhf_cli.engine.native import NativeEngine

    def sample(*given: Any, **named: Any) -> None:
        raise ERRORS[1]

    monkeypatch.setattr(NativeEngine, "sample", sample)
    unchecked(monkeypatch)
    outcome = rlhf("train", *QUICK, "run_dir=out", "evaluate.every=0")
    assert outcome.code == 2
    assert "error: out of memory while writing 8 completions at once (samples_per_prompt)" in outcome.err


def test_an_evaluation_that_does_not_fit_says_so_and_leaves_the_microbatches_alone(
    rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_cli.engine.native import NativeEngine

    plain = NativeEngine.sample

    def sample(self: NativeEngine, batch: Any, *given: Any, **named: Any) -> Any:
        if len(batch) > 16:
            raise ERRORS[0]
        return plain(self, batch, *given, **named)

    monkeypatch.setattr(NativeEngine, "sample", sample)
    outcome = rlhf("train", *QUICK, "run_dir=out", "evaluate.samples=12")
    assert outcome.code == 2
    assert "microbatches" not in outcome.err
    assert "error: out of memory while writing 24 completions at once (evaluate.samples)" in outcome.err


def test_another_error_of_the_model_is_ours(rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch) -> None:
    Memory(monkeypatch, 3, RuntimeError("shapes do not fit"))
    outcome = rlhf("train", *QUICK, "run_dir=out")
    assert outcome.code == 1
    assert "RuntimeError: shapes do not fit" in outcome.err
