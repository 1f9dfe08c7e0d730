"""The loop: it learns, it stops and goes on with the same bytes, it skips what is not finite, and it ends early."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_cli.errors import EXIT_NONFINITE, Stopped, UserError
from rlhf_cli.runs.checkpoint import list_checkpoints
from rlhf_cli.supervised import held_out, learning
from rlhf_cli.supervised.conclude import conclude
from rlhf_cli.supervised.loop import train
from rlhf_cli.supervised.objectives.objective import Reading
from rlhf_cli.supervised.objectives.sft import Sft
from rlhf_cli.supervised.result import SupervisedResult
from rlhf_cli.supervised.run import SupervisedRun
from tests.support import lines
from tests.unit.supervised.support import BRADLEY_TERRY, DPO, SFT, run_of
from tests.unit.support import Recorder, tiny

OBJECTIVES = [SFT, DPO, BRADLEY_TERRY]
EXACT = ("metrics.jsonl", "evaluations.jsonl", "result.json", "adapter/adapter_model.safetensors")
KINDS = [objective["kind"] for objective in OBJECTIVES]


def notes(run: SupervisedRun) -> list[str]:
    assert isinstance(run.work.reporter, Recorder)
    return run.work.reporter.notes


def finish(run: SupervisedRun) -> SupervisedResult:
    train(run)
    return conclude(run)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in EXACT}


@pytest.mark.parametrize("objective", OBJECTIVES, ids=KINDS)
def test_a_tiny_model_learns_what_the_rows_teach(objective: dict[str, Any], tmp_path: Path) -> None:
    run = run_of(tmp_path / "out", objective, steps=20, evaluate={"every": 20, "prompts": 4})
    result = finish(run)
    assert (result.task, result.step, result.exported, result.held_out) == (objective["kind"], 20, 20, 4)
    assert result.change["loss"].high < 0
    assert result.after["loss"].mean < result.before["loss"].mean * (0.85 if objective is SFT else 0.3)
    if objective is not SFT:
        assert result.after["accuracy"].mean == 1.0
    first, last = lines(tmp_path / "out" / "metrics.jsonl")[0], lines(tmp_path / "out" / "metrics.jsonl")[-1]
    assert first["heldout/loss"] == result.before["loss"].mean
    assert last["heldout/loss"] == pytest.approx(result.after["loss"].mean)
    assert SupervisedResult.read(tmp_path / "out") == result
    assert not any("nothing was learned" in note for note in notes(run))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=KINDS)
def test_a_run_that_leaves_every_loss_as_it_was_says_so(objective: dict[str, Any], tmp_path: Path) -> None:
    run = run_of(tmp_path / "out", objective, lr=1e-30)
    finish(run)
    assert notes(run)[-1].startswith("nothing was learned: after step 3 every held-out loss is that of the untouched")
    run = run_of(tmp_path / "stalled", objective, lr=1e-30, patience=1)
    assert finish(run).exported == 0
    assert notes(run)[-1].startswith("nothing was learned: after step 2 every")


@pytest.mark.parametrize("objective", OBJECTIVES, ids=KINDS)
def test_stopped_after_any_step_it_goes_on_with_the_same_bytes(objective: dict[str, Any], tmp_path: Path) -> None:
    """Three steps of four examples are one and a half epochs of eight; dropout must come back too."""
    dropout = {"model": tiny(layers=1, dropout=0.1).model_dump(mode="json")}
    finish(run_of(tmp_path / "whole", objective, **dropout))
    expected = contents(tmp_path / "whole")
    for stop in range(3):
        folder = tmp_path / str(stop)
        train(run_of(folder, objective, **dropout), until=stop)
        again = run_of(folder, objective, resumed=True, **dropout)
        assert again.state.step == stop
        finish(again)
        assert contents(folder) == expected, stop


def test_a_stop_within_a_step_undoes_it_and_saves_the_step_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(run_of(tmp_path / "whole", SFT))
    run = run_of(tmp_path / "out", SFT)
    train(run, until=2)
    apply = learning.apply

    def stopped(*arguments: Any) -> dict[str, float]:
        apply(*arguments)
        raise Stopped("Ctrl-C")

    monkeypatch.setattr(learning, "apply", stopped)
    run = run_of(tmp_path / "out", SFT, resumed=True)
    with pytest.raises(Stopped):
        train(run)
    assert notes(run)[-1] == f"step 2 is saved; continue it by: rlhf sft resume={tmp_path / 'out'}"
    monkeypatch.undo()
    finish(run_of(tmp_path / "out", SFT, resumed=True))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("step", "advice"),
    [(0, "(model); fix: take another one"), (1, "(optimizer); fix: resume with a lower learning rate")],
)
def test_a_held_out_loss_that_is_not_finite_ends_the_run(
    step: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path / "out", SFT)
    monkeypatch.setattr(held_out, "join_figures", lambda parts: {"loss": [1.0, float("inf")]})
    with pytest.raises(UserError) as caught:
        held_out.evaluate(run, step)
    run.logbook.close()
    assert caught.value.line().startswith(f"a held-out loss after step {step} is not finite {advice}")
    assert caught.value.exit_code == EXIT_NONFINITE


def broken(step: int, monkeypatch: pytest.MonkeyPatch, run: SupervisedRun) -> None:
    """Let the loss be NaN from that step on, for one step."""
    read = Sft.read

    def read_or_break(self: Sft, *arguments: Any) -> Reading:
        reading = read(self, *arguments)
        return replace(reading, losses=reading.losses * float("nan")) if run.state.step == step else reading

    monkeypatch.setattr(Sft, "read", read_or_break)


def test_a_gradient_that_is_not_finite_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(tmp_path / "out", SFT, evaluate={"every": 0, "prompts": 4})
    train(run, until=1)
    before = {name: p.detach().clone() for name, p in run.policy.parameters().items()}
    run = run_of(tmp_path / "out", SFT, resumed=True, evaluate={"every": 0, "prompts": 4})
    broken(1, monkeypatch, run)
    train(run, until=2)
    assert notes(run)[-1].startswith("step 2 changes nothing: the gradient is not finite; its rows: rows.jsonl:")
    assert notes(run)[-1].endswith(" and 1 more")
    assert lines(tmp_path / "out" / "metrics.jsonl")[-1] == {"step": 2, "skipped": 1.0}
    assert all(torch.equal(p, before[name]) for name, p in run.policy.parameters().items())
    assert run.state.skipped == 1


def test_too_many_of_them_end_the_run_with_the_step_before_them_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path / "out", SFT, max_skipped_steps=0)
    broken(1, monkeypatch, run)
    with pytest.raises(UserError, match="the gradient is not finite in step 2") as caught:
        train(run)
    assert caught.value.exit_code == EXIT_NONFINITE
    assert list_checkpoints(tmp_path / "out" / "checkpoints")[0].name == "step-00000001"


def test_without_a_lower_loss_it_ends_early_and_exports_the_best_step(tmp_path: Path) -> None:
    """The learning rate is far too high, so the held-out loss only rises."""
    many: dict[str, Any] = {"steps": 40, "evaluate": {"every": 1, "prompts": 4}, "patience": 2, "lr": 0.9}
    run = run_of(tmp_path / "out", BRADLEY_TERRY, **many)
    result = finish(run)
    assert result.best is not None
    assert result.step == result.best + 2 < 40
    assert (result.exported, result.stalled) == (result.best, 2)
    which = f"the exported adapter is that of step {result.best}, which has the lowest held-out loss"
    assert notes(run)[-1] == f"ended after step {result.step}, without a lower held-out loss in 2 evaluations: {which}"
    best = tmp_path / "out" / "checkpoints" / f"step-{result.best:08d}" / "adapter_model.safetensors"
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").read_bytes() == best.read_bytes()
    expected = contents(tmp_path / "out")
    again = finish(run_of(tmp_path / "out", BRADLEY_TERRY, resumed=True, **many))
    assert again == result  # nothing is left to do
    assert contents(tmp_path / "out") == expected


def test_a_best_step_that_is_gone_is_not_said_to_be_exported(tmp_path: Path) -> None:
    many: dict[str, Any] = {"steps": 40, "evaluate": {"every": 1, "prompts": 4}, "patience": 2, "lr": 0.9}
    run = run_of(tmp_path / "out", BRADLEY_TERRY, **many)
    train(run)
    assert run.state.best is not None
    assert run.state.best.step == run.state.step - 2
    shutil.rmtree(tmp_path / "out" / "checkpoints" / f"step-{run.state.best.step:08d}")
    result = conclude(run)
    assert (result.exported, result.best) == (run.state.step, run.state.best.step)
    gone = f"the last adapter is exported, as the checkpoint of the best step, {result.best}, is gone"
    assert gone in notes(run)[-1]


def test_a_resume_that_ends_at_a_step_that_is_done_evaluates_it(tmp_path: Path) -> None:
    """Step 3 of 4 is none at which an evaluation is due; a run that goes on from there does without it."""
    finish(run_of(tmp_path / "whole", SFT, steps=4))
    train(run_of(tmp_path / "out", SFT, steps=4), until=3)
    lowered = run_of(tmp_path / "out", SFT, resumed=True, steps=3)
    result = finish(lowered)
    assert not [note for note in notes(lowered) if "nothing to compare" in note]
    assert [row["step"] for row in lines(tmp_path / "out" / "evaluations.jsonl")] == [0, 2, 3]
    assert [row["step"] for row in lines(tmp_path / "out" / "metrics.jsonl")] == [0, 1, 2, 3]
    assert (result.step, result.exported) == (3, 3)
    assert result.change["loss"].high < 0
    assert finish(run_of(tmp_path / "out", SFT, resumed=True, steps=3)) == result
    finish(run_of(tmp_path / "out", SFT, resumed=True, steps=4))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_memory_that_runs_out_halves_the_microbatches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(tmp_path / "out", SFT, microbatch_size=4, evaluate={"every": 0, "prompts": 4})
    read = Sft.read

    def read_few(self: Sft, batch: Any, examples: Any, engine: Any) -> Reading:
        if len(examples) > 2:
            raise torch.OutOfMemoryError("too much")
        return read(self, batch, examples, engine)

    monkeypatch.setattr(Sft, "read", read_few)
    train(run, until=1)
    assert run.state.microbatch_size == 2
