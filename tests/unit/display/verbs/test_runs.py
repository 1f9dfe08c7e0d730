"""display.verbs.runs: what a line about a run says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rlhf_cli.display.verbs.runs import show_runs
from rlhf_cli.runs.listing import list_runs


def write_run(folder: Path, command: list[str], *metrics: dict[str, float]) -> None:
    folder.mkdir(parents=True)
    model, algorithm, reward = {"kind": "pretrained", "path": "/m/SmolLM2"}, {"kind": "rloo"}, {"kind": "length"}
    config = {"steps": 4, "model": model, "algorithm": algorithm, "reward": reward}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "run.json").write_text(json.dumps({"command": ["rlhf", *command, f"run_dir={folder}", "display=plain"]}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))


def test_runs_are_told_apart_by_what_differs_and_by_held_out_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluated = {"eval/objective": 0.25, "eval/reward/mean": 0.5, "eval/kl/seq": 2.5}
    step = {"objective": 0.1, "reward/mean": 0.2, "kl/seq": 1.0}
    write_run(tmp_path / "a", ["config=mine.yaml", "beta=0.1"], {"step": 2, **step, **evaluated}, {"step": 3, **step})
    write_run(tmp_path / "b", ["config=mine.yaml", 'model.stop=["\n"]'], {"step": 1, **step})
    show_runs(list_runs(tmp_path), {})
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]
    assert sorted(line for line in lines if "SmolLM2" in line) == [
        "SmolLM2 · rloo · length  beta=0.1  held-out at step 2: J +0.250, reward +0.500, KL 2.50",
        r'SmolLM2 · rloo · length  model.stop=["\n"]',
    ]


def test_a_terminal_breaks_what_a_run_is_between_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    write_run(tmp_path / "a", ["steps=4", "evaluate.every=2", "beta=0.1"], {"step": 1})
    show_runs(list_runs(tmp_path), {})
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()]
    assert [line for line in lines if line.startswith("    ")] == [
        "    SmolLM2 · rloo · length  steps=4", "    evaluate.every=2 beta=0.1",
    ]  # fmt: skip


def test_no_figure_is_a_zero_with_a_minus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A KL may be a rounding below 0."""
    figures = {"objective": -1e-9, "reward/mean": -1e-4, "kl/seq": -1e-8}
    write_run(tmp_path / "a", ["seed=1"], {"step": 1, **figures, **{f"eval/{name}": v for name, v in figures.items()}})
    show_runs(list_runs(tmp_path), {})
    out = capsys.readouterr().out
    assert "held-out at step 1: J +0.000, reward +0.000, KL 0.00" in out
    assert "-0.0" not in out


def test_a_run_of_supervised_training_has_its_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", ["steps=4"], {"step": 2, "heldout/loss": 0.5, "heldout/accuracy": 0.75})
    config = {"steps": 4, "model": {"kind": "tiny"}, "objective": {"kind": "dpo"}}
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    show_runs(list_runs(tmp_path), {})
    assert "tiny · dpo  steps=4  held-out at step 2: loss 0.500, accuracy 75.0%" in capsys.readouterr().out
