"""`rlhf eval`: a policy against its reference, against another run, on other data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.runs.binding import read_record, write_record
from tests.pages import parse, said
from tests.support import Outcome, lines

Rlhf = Callable[..., Outcome]


def test_the_figures_are_those_of_the_runs_last_evaluation(finished: Path, rlhf: Rlhf, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    outcome = rlhf("eval", "out", "--json", "--page", "page.html")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    by_name = {measure["name"]: measure for measure in found["measures"]}
    last = lines(tmp_path / "out" / "metrics.jsonl")[-1]
    for name, key in (("reward", "reward/mean"), ("J", "objective"), ("kl", "kl/seq"), ("length", "completion/length")):
        assert by_name[name]["a"]["mean"] == pytest.approx(last[f"eval/{key}"], rel=1e-5)
    first = lines(tmp_path / "out" / "metrics.jsonl")[0]
    assert by_name["reward"]["b"]["mean"] == pytest.approx(first["eval/reward/mean"])
    assert by_name["kl"]["b"]["mean"] == 0.0
    assert (found["a"], found["b"], found["prompts"], found["samples"], found["left_out"]) == (
        "out",
        "reference",
        4,
        4,
        0,
    )
    words = said(parse((tmp_path / "page.html").read_text()))
    assert "out against reference" in words
    assert words.count(", reward ") == 2 * 4


def test_two_runs_on_other_data(finished: Path, rlhf: Rlhf, tmp_path: Path) -> None:
    """The same policy twice, greedy, so that nothing differs; all rows of the file are asked."""
    shutil.copytree(finished, tmp_path / "a=1")
    shutil.copytree(finished, tmp_path / "b")
    (tmp_path / "p.jsonl").write_text("".join(f'{{"prompt": "Say {n}."}}\n' for n in range(9)))
    outcome = rlhf("eval", "a=1", "b", "data=jsonl", "data.path=p.jsonl", "--temperature", "0")
    assert outcome.code == 0, outcome.err
    assert "9 prompts x 1 completion at T = 0" in outcome.out
    assert "a completion of a=1 has a higher reward than one of b in 50.0% [" in outcome.out
    assert "J" not in outcome.out.split()
    assert outcome.out.count("+0.000 ± 0.000") == 7  # length has one digit


@pytest.mark.parametrize(
    ("argv", "code", "what"),
    [
        (["nowhere"], 5, "no such folder (nowhere); fix: name a run's folder"),
        (["outt"], 5, "no such folder (outt); fix: did you mean out?"),
        (["out", "algorithm=ppo"], 2, "algorithm belongs to the run"),
        (["out", "dta=jsonl"], 2, "unknown setting 'dta'; did you mean data? (dta=jsonl)"),
        (["out", "--temprature", "0"], 2, "--temprature 0 (rlhf eval); fix: did you mean --temperature?"),
        (["out", "--nothing"], 2, "unrecognized arguments: --nothing (rlhf eval); fix: rlhf eval --help"),
        (["out", "out", "out"], 2, "give one run or two"),
        (["out", "out"], 2, "both are the same policy"),
        (["evaluate.samples=2"], 2, "give one run or two"),
        (["out", "--temperature", "-1"], 2, "must be 0 or more"),
        (["out", "--top-p", "1.5"], 2, "must be 0 to 1"),
        (["out", "--temperature", "0", "evaluate.samples=8"], 2, "greedy completions are all the same"),
        (["out", "data=jsonl", "data.path=none.jsonl"], 3, "no such prompt file"),
        (["out", "--page", "out"], 6, "a folder, and no file for a page (out); fix: --page FILE"),
        (["out", "--page", "no/such.html"], 6, "no such folder (no); fix: make it, or name another path"),
        (["out", "--page", "out/run.json"], 2, "that is no page of rlhf (out/run.json); fix: --page FILE"),
    ],
)
def test_mistakes_are_one_line_before_a_model_is_loaded(
    argv: list[str], code: int, what: str, finished: Path, rlhf: Rlhf, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    outcome = rlhf("eval", *argv)
    assert (outcome.code, outcome.err.count("\n")) == (code, 1), outcome.err
    assert what in outcome.err


def test_a_run_of_other_prompts_is_said(finished: Path, rlhf: Rlhf, tmp_path: Path) -> None:
    """Its training prompts may be those that both are asked."""
    for name in ("a", "b"):
        shutil.copytree(finished, tmp_path / name)
    assert "note: " not in rlhf("eval", "a", "b").err
    record = read_record(tmp_path / "b")
    write_record(tmp_path / "b", record | {"data": record["data"] | {"sha256": "0"}})
    assert "note: b has other prompts than a, and may have been trained on these\n" in rlhf("eval", "a", "b").err
