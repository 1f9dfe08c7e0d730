"""`rlhf doctor`: what is wrong with runs and sweeps, and the machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.sweep.record import SweepRecord, Trial
from tests.support import Outcome

Rlhf = Callable[..., Outcome]

FIXTURES = Path(__file__).parents[1] / "fixtures" / "first_layout"


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """A run of 19 steps whose completions are all cut from its tenth step on."""
    run = shutil.copytree(FIXTURES / "run", tmp_path / "cut")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines[1:2] * 19]
    for step, row in enumerate(rows, start=1):
        row |= {"step": step, "completion/truncated": float(step >= 10), "reward/same_in_group": 0.0}
    (run / "metrics.jsonl").write_text("\n".join([lines[0], *map(json.dumps, rows)]) + "\n{half a li")
    return run


def test_a_run(rlhf: Rlhf, cut: Path) -> None:
    before = sorted(cut.rglob("*"))
    outcome = rlhf("doctor", str(cut))
    assert outcome.code == 0, outcome.err
    assert outcome.out == (
        "truncation: Nearly all completions are cut at max_new_tokens, and judged or dropped as cut\n"
        "  since step 18: 90% of the completions of 10 steps are cut; 0% in the first 5\n"
        "  try max_new_tokens=16\n"
    )
    report = json.loads(rlhf("doctor", str(cut), "--json").out)
    (finding,) = report["findings"]
    assert (report["steps"], finding["rule"], finding["step"], finding["until"]) == (19, "truncation", 18, None)
    assert sorted(cut.rglob("*")) == before


def test_a_short_run_says_that_little_can_be_told(rlhf: Rlhf) -> None:
    outcome = rlhf("doctor", str(FIXTURES / "run"))
    assert outcome.out == "nothing found by 11 rules in 6 steps: few rules can tell before step 15\n"


def test_a_sweep(rlhf: Rlhf, cut: Path, tmp_path: Path) -> None:
    sweep = shutil.copytree(FIXTURES / "sweep", tmp_path / "sweep")
    shutil.copytree(cut, sweep / "beta=1")
    outcome = rlhf("doctor", str(sweep))
    assert outcome.code == 0, outcome.err
    first, *rest = outcome.out.splitlines()
    assert first.endswith("sweep/beta=1")
    assert rest[0].startswith("  truncation: ")
    assert rest[-1] == "nothing found in 2: beta=0.05-6e1f63, beta=0.2-ed78a3"
    trials = json.loads(rlhf("doctor", str(sweep), "--json").out)["trials"]
    assert [len(trial["findings"]) for trial in trials] == [0, 0, 1]


def test_a_sweep_that_has_not_begun(rlhf: Rlhf, tmp_path: Path) -> None:
    SweepRecord(tmp_path, "rlhf train -m seed=1,2", (Trial("seed=1", {"seed": "1"}, 3),), str(tmp_path)).write()
    assert rlhf("doctor", str(tmp_path)).out == "no trial has begun\n"


def test_the_machine(rlhf: Rlhf) -> None:
    names = [line[:11].strip() for line in rlhf("doctor").out.splitlines()]
    assert names == ["python", "processor", "gpu", "memory", "disk", "cache", "hub", "packages"]
    assert "torch" in json.loads(rlhf("doctor", "--json").out)["packages"]


@pytest.mark.parametrize(
    ("name", "said"), [("none", "error: no such folder (none)"), ("here", "error: no run and no sweep here (")]
)
def test_mistakes_are_one_line(
    name: str, said: str, rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    outcome = rlhf("doctor", name)
    assert (outcome.code, outcome.out) == (5, "")
    assert outcome.err.startswith(said)


def test_a_supervised_run_is_no_patient(rlhf: Rlhf, cut: Path) -> None:
    (cut / "config.json").write_text(json.dumps({"objective": {"kind": "sft"}, "steps": 3}))
    outcome = rlhf("doctor", str(cut))
    assert outcome.code == 5
    assert "a run of rlhf sft, not of rlhf train" in outcome.err
    assert "fix: rlhf report shows its losses; the doctor reads runs of rlhf train" in outcome.err
