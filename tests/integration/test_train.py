"""One run, from the command line to its files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.runs.reading import EVALUATION
from tests.support import QUICK, Outcome, lines

Rlhf = Callable[..., Outcome]


def test_a_run_writes_what_it_promises(finished: Path) -> None:
    folder = finished
    present = {path.name for path in folder.iterdir()}
    expected = {
        ".hydra",
        "config.json",
        "run.json",
        "metrics.jsonl",
        "timings.jsonl",
        "samples.jsonl",
        "evaluations.jsonl",
    }
    assert expected | {"tb", "checkpoints", "adapter", "result.json", "report.html"} <= present
    assert [row["step"] for row in lines(folder / "metrics.jsonl")] == [0, 1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in lines(folder / "evaluations.jsonl")] == [0, 3, 6]
    assert (folder / "checkpoints" / "latest").read_text() == "step-00000006\n"
    evaluations = [EVALUATION.validate_json(line) for line in (folder / "evaluations.jsonl").read_bytes().splitlines()]
    first, middle, last = (found.metrics()["eval/objective"] for found in evaluations)
    kept = sorted({0, 2, 4, 6} | ({3} if middle > first else set()))  # after step 3 where it was the best so far
    assert sorted(path.name for path in (folder / "checkpoints").glob("step-*")) == [f"step-{n:08d}" for n in kept]
    best = evaluations[max(range(3), key=[first, middle, last].__getitem__)]
    assert (folder / "checkpoints" / "best").read_text() == f"step-{best.step:08d}\n"
    assert {path.name for path in (folder / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert (folder / "adapter" / "adapter_model.safetensors").read_bytes() == (
        folder / "checkpoints" / "step-00000006" / "adapter_model.safetensors"
    ).read_bytes()
    assert any((folder / "tb").glob("events.out.tfevents.*"))
    record = json.loads((folder / "run.json").read_text())
    assert record["model"]["trained"] > 0
    assert record["packages"]["torch"]


def test_the_figures_of_a_step_agree_with_each_other(rlhf: Rlhf, tmp_path: Path) -> None:
    assert rlhf("train", *QUICK, "run_dir=out", "beta=0.3", "log_samples=64").code == 0
    metrics, samples = lines(tmp_path / "out" / "metrics.jsonl"), lines(tmp_path / "out" / "samples.jsonl")
    for row in metrics[1:]:
        step = [sample for sample in samples if sample["step"] == row["step"]]
        assert len(step) == 8
        assert row["reward/mean"] == pytest.approx(sum(s["score"] for s in step) / 8)
        assert row["kl/seq"] == pytest.approx(sum(s["kl"] for s in step) / 8, abs=1e-6)
        assert row["objective"] == pytest.approx(row["reward/mean"] - 0.3 * row["kl/seq"])
        assert row["completion/truncated"] == sum(s["truncated"] for s in step) / 8
        assert row["sampler/gap"] < 1e-4
        assert row["beta"] == 0.3
    assert metrics[1]["kl/seq"] == pytest.approx(0, abs=1e-6)  # the policy starts as the reference
    assert metrics[-1]["kl/seq"] > 1e-3  # and the adapter moves
    assert metrics[0]["eval/kl/seq"] == pytest.approx(0, abs=1e-6)


def test_the_tiny_preset_learns(rlhf: Rlhf, tmp_path: Path) -> None:
    small = ("steps=16", "evaluate.every=16", "checkpoint.every=16", "display=quiet")
    assert rlhf("train", "config=tiny", *small, "run_dir=out").code == 0
    first, *_, last = (row for row in lines(tmp_path / "out" / "metrics.jsonl") if "eval/objective" in row)
    spread = math.hypot(first["eval/objective_se"], last["eval/objective_se"])
    assert last["eval/objective"] - first["eval/objective"] > 3 * spread


def test_the_plain_display_says_one_line_a_step(rlhf: Rlhf) -> None:
    outcome = rlhf("train", *QUICK, "display=plain", "run_dir=out")
    steps = [line for line in outcome.err.splitlines() if line.startswith("step ") and "held-out" not in line]
    assert [line.split()[1] for line in steps] == [f"{n}/6" for n in range(1, 7)]
    assert "other processes" not in outcome.err
    for word in ("Held-out", "reference", "policy", "adapter", "rlhf generate", "rlhf train resume="):
        assert word in outcome.out


def test_the_json_display_is_the_metrics_file_and_the_result(rlhf: Rlhf, tmp_path: Path) -> None:
    outcome = rlhf("train", *QUICK, "display=json", "run_dir=out")
    *steps, end = [json.loads(line) for line in outcome.out.splitlines()]
    assert steps == lines(tmp_path / "out" / "metrics.jsonl")
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert end == {"run_dir": str(tmp_path / "out"), "result": result}


def test_a_users_file_is_copied_into_the_run(rlhf: Rlhf, tmp_path: Path) -> None:
    (tmp_path / "my-run.yaml").write_text(
        "model: tiny\ndata: tiny\nreward: characters\nmax_new_tokens: 4\nsteps: 1\nevaluate: {every: 0}\n"
    )
    assert rlhf("train", "config=./my-run.yaml", "display=quiet", "run_dir=out").code == 0
    assert (tmp_path / "out" / "my-run.yaml").read_text() == (tmp_path / "my-run.yaml").read_text()


def test_a_users_file_with_the_name_of_one_of_the_runs_is_copied_beside_it(rlhf: Rlhf, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"defaults": ["tiny"], "steps": 1, "evaluate": {"every": 0}}')
    assert rlhf("train", "config=./config.json", "display=quiet", "run_dir=out").code == 0
    assert (tmp_path / "out" / "yours-config.json").read_text() == (tmp_path / "config.json").read_text()
    assert "optimizer" in json.loads((tmp_path / "out" / "config.json").read_text())


def test_a_users_file_is_not_copied_where_a_link_leads(rlhf: Rlhf, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("defaults: [tiny]\nsteps: 1\nevaluate: {every: 0}\n")
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "r.yaml").symlink_to(tmp_path / "mine.txt")
    outcome = rlhf("train", "config=./r.yaml", "display=quiet", "run_dir=out")
    assert (outcome.code, outcome.err.count("\n")) == (6, 1)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_one_bad_trial_stops_the_sweep_before_it_starts(rlhf: Rlhf, tmp_path: Path) -> None:
    outcome = rlhf("train", "config=tiny", "-m", "samples_per_prompt=4,1", "sweep_dir=sweep")
    assert outcome.code == 2
    assert "samples_per_prompt" in outcome.err
    assert not any(tmp_path.iterdir())
