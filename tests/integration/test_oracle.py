"""`rlhf oracle`, and what a training run says of the optimum."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.engine.native import NativeEngine
from tests.support import Outcome, lines

Rlhf = Callable[..., Outcome]
FAST = ("oracle", "config=tiny", "model.layers=1", "max_new_tokens=6", "evaluate.prompts=4", "--samples", "32")


def test_the_tables_and_the_plot(rlhf: Rlhf, tmp_path: Path) -> None:
    outcome = rlhf(*FAST, "--betas", "0.5,0.01", "temperature=1.2")
    assert outcome.code == 0, outcome.err
    rows = [" ".join(line.replace("│", " ").split()) for line in outcome.out.splitlines()]
    assert rows[0] == "The optimum, from 4 prompts x 32 completions of the reference at T = 1.2"
    for wanted in ("0.01 0.", "0.5 0.", "1 0.", "32 0.", "best of n"):
        assert any(row.startswith(wanted) or row.endswith(wanted) for row in rows), wanted
    assert "over other completions of these prompts" in outcome.out
    assert "beta 0.01: too few samples: log n - KL* >= 3 for 0 % of the prompts, not 90 %\n" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert outcome.err.splitlines()[-1] == "the reference writes ..."
    assert list(tmp_path.iterdir()) == []


def test_json_is_one_object_and_repeats(rlhf: Rlhf) -> None:
    outcome = rlhf(*FAST, "--json", "beta=0.2", "evaluate.every=0")
    found = json.loads(outcome.out)
    assert [point["beta"] for point in found["points"]] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8])
    assert (found["prompts"], found["samples"], found["beta"], found["temperature"]) == (4, 32, 0.2, 1.0)
    for point in found["points"]:
        assert point["optimum"] == pytest.approx(point["reward"] - point["beta"] * point["kl"])
        assert point["optimum"] >= point["reference"]
        assert point["kl"] <= math.log(32)
    assert [one["n"] for one in found["best_of"]] == [1, 2, 4, 8, 16, 32]
    assert found["best_of"][0]["reward"] == pytest.approx(found["points"][0]["reference"])
    assert rlhf(*FAST, "--json", "beta=0.2").out == outcome.out


def test_the_beta_of_a_schedule_is_its_last(rlhf: Rlhf) -> None:
    schedule = ("beta=linear", "beta.start=1.0", "beta.end=0.3", "steps=3", "temperature=linear", "temperature.end=0.9")
    found = json.loads(rlhf(*FAST, "--json", *schedule).out)
    assert found["beta"] == pytest.approx(0.3)
    assert found["temperature"] == pytest.approx(0.9)


def test_the_policy_of_a_run_at_other_betas(rlhf: Rlhf, finished: Path) -> None:
    outcome = rlhf("oracle", str(finished), "--betas", "0.005,0.01")
    assert outcome.code == 0, outcome.err
    rows = [" ".join(line.replace("│", " ").split()) for line in outcome.out.splitlines()]
    last = lines(finished / "evaluations.jsonl")[-1]
    assert rows[0].startswith(
        f"The policy of step {last['step']} at other betas, from {len(last['prompts'])} prompts x "
    )
    assert any(row.startswith("0.005 2 – – –") for row in rows)  # few samples
    assert any(row.startswith("0.01 1 0.") and row.endswith(" 100%") for row in rows)
    assert "beta 0.005: " in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80
    points = json.loads(rlhf("oracle", str(finished), "--betas", "0.01", "--json").out)
    assert points[0]["reward"]["mean"] == pytest.approx(sum(map(sum, last["reward"])) / sum(map(len, last["reward"])))


def test_a_run_that_is_not_there_is_one_line(rlhf: Rlhf) -> None:
    outcome = rlhf("oracle", "missing")
    assert (outcome.code, outcome.out) == (5, "")
    assert outcome.err.startswith("error: no such folder (")


def test_a_run_of_supervised_training_has_no_beta(rlhf: Rlhf, finished: Path, tmp_path: Path) -> None:
    file = shutil.copytree(finished, tmp_path / "run") / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"objective": {"kind": "sft"}}))
    outcome = rlhf("oracle", "run")
    assert (outcome.code, outcome.out) == (5, "")
    assert outcome.err.startswith("error: a run of rlhf sft, not of rlhf train (")


@pytest.mark.parametrize("more", [("beta=0.1",), ("--samples", "8")])
def test_a_run_takes_no_settings(more: tuple[str, ...], rlhf: Rlhf, finished: Path) -> None:
    outcome = rlhf("oracle", str(finished), *more)
    assert outcome.code == 2
    assert outcome.err.endswith("leave the other arguments out\n" if "=" in more[0] else "leave it out\n")


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("stpes=3",), 2, "unknown setting 'stpes'; did you mean steps?"),
        (("beta=0",), 2, "beta is 0, which has no optimum (beta); fix: name some: --betas 0.02,0.05,0.1"),
        (("--betas", "0.1,0"), 2, "numbers above 0, with commas between them (got 0.1,0)"),
        (("--betas", "a"), 2, "numbers above 0, with commas between them (got a)"),
        (("--samples", "1"), 2, "must be at least 2 (got 1)"),
        (("--colour",), 2, "unrecognized arguments: --colour"),
        (("evaluate.prompts=9999",), 3, "held-out prompts"),
    ],
)
def test_mistakes_are_one_line(argv: tuple[str, ...], code: int, said: str, rlhf: Rlhf, tmp_path: Path) -> None:
    outcome = rlhf("oracle", "config=tiny", *argv)
    assert outcome.code == code
    assert said in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert outcome.out == ""
    assert list(tmp_path.iterdir()) == []


def test_betas_can_be_named_for_a_run_without_one(rlhf: Rlhf) -> None:
    assert [p["beta"] for p in json.loads(rlhf(*FAST, "beta=0", "--betas", "0.3", "--json").out)["points"]] == [0.3]


def test_an_interruption_is_no_traceback(rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(NativeEngine, "sample", interrupted)
    outcome = rlhf(*FAST)
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err.splitlines()[-1] == "stopped: interrupted"


def test_help_says_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    from rlhf_cli.commands.planning.oracle import main

    with pytest.raises(SystemExit) as left:
        main(["--help"])
    out = capsys.readouterr().out
    assert left.value.code == 0
    assert "what training could reach" in out
    assert max(map(len, out.splitlines())) <= 80


EVALUATED = ("train", "config=tiny", "steps=2", "evaluate.every=1", "max_new_tokens=6", "run_dir=out", "display=plain")


def test_a_run_with_samples_enough_gives_its_percentage(rlhf: Rlhf, tmp_path: Path) -> None:
    outcome = rlhf(*EVALUATED, "evaluate.samples=64", "evaluate.prompts=4", "beta=0.5")
    assert outcome.code == 0, outcome.err
    said = [line for line in outcome.err.splitlines() if "held-out: " in line]
    rows = lines(tmp_path / "out" / "evaluations.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2]
    metrics = {row["step"]: row for row in lines(tmp_path / "out" / "metrics.jsonl")}
    known = 0
    for line, row in zip(said, rows, strict=True):
        found = row["optimum"]
        assert line.startswith(f"step {row['step']}/2  held-out: ")
        assert len(row["reference"]["reward"]) == 4
        assert len(row["reference"]["logprob"][0]) == 64
        if found["percent"] is None:
            assert "optimum" not in line
            assert "eval/optimum" not in metrics[row["step"]]
        else:
            known += 1
            assert line.endswith(f"  optimum {round(found['percent']) + 0.0:.0f} %")
            assert metrics[row["step"]]["eval/optimum"] == found["percent"]
    assert known > 0
    assert rows[0]["optimum"]["gain"] == pytest.approx(0.0, abs=1e-6)
    assert rows[0]["reference"] == {name: rows[0][name] for name in ("reward", "logprob", "ref_logprob")}
    assert rows[2]["reference"]["reward"] == rows[0]["reward"]  # the same streams, the same reference
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["optimum"] == rows[2]["optimum"]
    assert outcome.out.count("largest possible gain in J") == 1


def test_a_run_with_too_few_samples_says_so_and_still_gives_the_bound(rlhf: Rlhf, tmp_path: Path) -> None:
    outcome = rlhf(*EVALUATED, "evaluate.samples=4", "evaluate.every=2", "beta=0.001", "optimizer.lr=0.03", "steps=10")
    reason = "needs at least 21 samples a prompt (evaluate.samples=4)"
    assert "optimum" not in outcome.err
    found = json.loads((tmp_path / "out" / "result.json").read_text())
    gain = found["comparison"]["change"]["objective"]["mean"]
    assert gain > 0
    assert found["optimum"]["reason"] == reason
    assert found["optimum"]["gain"] == gain
    assert found["optimum"]["bound"] == pytest.approx(
        100 * gain / (1 - found["comparison"]["before"]["reward"]["mean"])
    )
    said = " ".join(outcome.out.split())
    assert said.count(f"this policy has at least {found['optimum']['bound']:.0f} %; no closer estimate: {reason}") == 1
    assert all(row["reference"] is None for row in lines(tmp_path / "out" / "evaluations.jsonl"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [("beta=0", "beta is 0"), ("temperature=1.3", "trained at T = 1.3, evaluated at 1")],
)
def test_where_the_percentage_is_not_defined(change: str, reason: str, rlhf: Rlhf) -> None:
    outcome = rlhf(*EVALUATED, "evaluate.samples=24", "evaluate.prompts=2", "evaluate.every=2", change)
    said = " ".join((outcome.out + outcome.err).split())
    assert said.count(reason) == 1
