"""display.tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_cli.display.tables import show_losses, show_result
from rlhf_cli.evaluation.evaluation import Comparison
from rlhf_cli.evaluation.intervals import Estimate, Interval
from rlhf_cli.runs.result import Result, SideBySide
from rlhf_cli.supervised.result import SupervisedResult
from tests.unit.display.samples import (
    DANGEROUS,
    HOSTILE,
    KNOWN,
)

COMPARISON = Comparison(
    before={
        "objective": Estimate(0.1, 0.02, 8),
        "reward": Estimate(0.1, 0.02, 8),
        "kl": Estimate(0.0, 0.0, 8),
        "length": Estimate(11.0, 1.0, 8),
    },
    after={
        "objective": Estimate(0.45, 0.05, 8),
        "reward": Estimate(0.5, 0.06, 8),
        "kl": Estimate(1.0, 0.25, 8),
        "length": Estimate(12.34, 0.5, 8),
    },
    change={
        "objective": Estimate(0.35, 0.04, 8),
        "reward": Estimate(0.4, 0.05, 8),
        "kl": Estimate(1.0, 0.25, 8),
        "length": Estimate(-1.34, 0.6, 8),
    },
    distinct_2=(0.9, 0.75),
)


class TestShowResult:
    """The last table, on stdout."""

    @pytest.mark.parametrize("comparison", [COMPARISON, None])
    def test_steps_without_a_signal_are_counted(
        self,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        comparison: Comparison | None,
    ) -> None:
        monkeypatch.setenv("COLUMNS", "120")
        (tmp_path / "config.json").write_text('{"samples_per_prompt": 4}')
        result = Result(3, 0.05, 8, 4, comparison, KNOWN if comparison else None, ())
        for same, expected in (([1, 1, 0.5], True), ([0.5, 0, 0.75], False)):
            rows = [f'{{"step": {n}, "skipped": 0.0, "reward/same_in_group": {s}}}\n' for n, s in enumerate(same, 1)]
            (tmp_path / "metrics.jsonl").write_text("".join(rows))
            show_result(result, tmp_path)
            line = "2 of 3 steps learned nothing from the reward: no completion scored above another of its prompt"
            assert (line in " ".join(capsys.readouterr().out.split())) is expected

    def test_levels_and_changes(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "120")
        show_result(
            Result(40, 0.05, 8, 4, COMPARISON, KNOWN, (SideBySide("Say something.", "before", "after"),)), tmp_path
        )
        out, err = capsys.readouterr()
        assert err == ""
        rows = [" ".join(line.replace("│", " ").split()) for line in out.splitlines()]
        for wanted in (
            "J = reward - 0.05·KL 0.100 ± 0.020 0.450 ± 0.050 +0.350 ± 0.040",
            "KL, nats 0.000 ± 0.000 1.000 ± 0.250 +1.000 ± 0.250",
            "length, tokens 11.0 ± 1.0 12.3 ± 0.5 -1.3 ± 0.6",
            "distinct word pairs 0.900 0.750 -0.150",
            "Of the largest possible gain in J, this policy has about 63 %",
            "Say something. before after",
            f"rlhf train resume={tmp_path} steps=80",
        ):
            assert any(wanted in row for row in rows), wanted

    def test_a_run_that_was_never_evaluated(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        show_result(Result(4, 0.05, 0, 2, None, None, (SideBySide("p", "r", "q"),)), tmp_path)
        out = capsys.readouterr().out
        assert "Held-out" not in out
        assert "Greedy completions" in out

    def test_a_folder_below_the_working_directory_is_named_from_there(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        show_result(Result(4, 0.05, 0, 2, None, None, ()), tmp_path / "outputs" / "run")
        out = capsys.readouterr().out
        assert "Written to outputs/run\n" in out
        assert str(tmp_path) not in out

    def test_hostile_texts_are_shown_as_harmless_ones(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "300")
        show_result(Result(4, 0.05, 2, 2, None, None, (SideBySide(HOSTILE, HOSTILE, HOSTILE),)), tmp_path)
        out = capsys.readouterr().out
        assert not set(out) & set(DANGEROUS)
        assert out.count("line one line two") == 3
        assert out.count("[red]not markup[/red] [/x]") == 3


def test_a_folder_with_brackets_and_spaces_is_shown_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    show_result(Result(2, 0.1, 1, 1, None, None, ()), tmp_path / "a [bold]run[/x]")
    printed = capsys.readouterr().out
    assert "Written to a [bold]run[/x]" in printed
    assert "rlhf train resume='a [bold]run[/x]' steps=4" in printed


DPO = SupervisedResult(
    task="dpo",
    step=40,
    exported=20,
    best=20,
    stalled=2,
    held_out=64,
    before={"loss": Interval(0.6931, 0.6931, 0.6931), "accuracy": Interval(0.5, 0.38, 0.62)},
    after={"loss": Interval(0.25, 0.125, 0.375), "accuracy": Interval(0.9, 0.8, 0.95)},
    change={"loss": Interval(-0.443, -0.568, -0.318), "accuracy": Interval(0.4, 0.3, 0.5)},
    reliability=(),
)


def test_figures_have_their_intervals_and_the_next_commands(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model": {"path": "org/model"}}')
    show_losses(DPO, tmp_path)
    out = capsys.readouterr().out
    assert "Held-out, step 20: 64 rows" in out
    assert "0.250 ± 0.125" in out
    assert "-0.443 ± 0.125" in out
    assert "90.0% [80.0%, 95.0%]" in out
    assert "+40.0% ± 10.0%" in out
    assert f"rlhf train model=pretrained model.path=org/model model.adapter={tmp_path}" in out
    assert f"rlhf dpo resume={tmp_path} steps=80" in out
    assert "reward_model/" not in out


def test_a_reward_model_is_used_by_its_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "reward_model").mkdir()
    show_losses(replace(DPO, task="bradley_terry", before={}, after={}, change={}), tmp_path)
    out = capsys.readouterr().out
    assert "Held-out" not in out
    assert "reward_model/" in out
    assert f"rlhf train reward=model reward.path={tmp_path}" in out
