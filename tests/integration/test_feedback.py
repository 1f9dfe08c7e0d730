"""`rlhf feedback`: rounds with a simulated annotator and with people, and how they go on."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.commands.training import feedback
from rlhf_cli.rewards.kinds.model import Model
from rlhf_cli.rounds.folder import Round
from rlhf_cli.rounds.truth import Truth, write_truth
from rlhf_cli.runs.lock import hold
from tests.support import Outcome, lines

Rlhf = Callable[..., Outcome]
FEW = (
    "config=tiny", "model.layers=1", "steps=2", "evaluate.every=2", "evaluate.samples=2", "max_new_tokens=4",
    "sinks=[]", "display=quiet", "--pairs", "24", "--rounds", "1",
)  # fmt: skip
REWARD_MODEL = ("--reward-model", "steps=2 evaluate.every=2 evaluate.prompts=4")


def contents(folder: Path) -> dict[Path, bytes]:
    """All files of the folder that are no page and no lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("report.html", ".lock"))
    return {path: path.read_bytes() for path in files}


def test_a_round_is_done_once_and_goes_on_where_it_stopped(rlhf: Rlhf, tmp_path: Path) -> None:
    done = rlhf("feedback", "loop", *FEW, *REWARD_MODEL)
    assert done.code == 0, done.err
    assert [line for line in done.err.splitlines() if line.startswith("round")] == [
        "round 1: samples", "round 1: simulated votes", "round 1: the reward model", "round 1: the policy",
    ]  # fmt: skip
    assert done.out.startswith("Round 1: the true reward ")
    assert done.out.endswith("page        loop/report.html\n")
    one = tmp_path / "loop" / "round-1"
    pairs, votes = lines(one / "pairs.jsonl"), lines(one / "pairs.votes.jsonl")
    assert len(pairs) == 24
    assert len(votes) == sum(row["a"].strip() != row["b"].strip() for row in pairs)
    assert all(row["rewards"] == [_letters(row["a"]), _letters(row["b"])] for row in pairs)
    config = json.loads((one / "policy" / "config.json").read_text())
    assert (config["reward"]["kind"], config["steps"]) == ("model", 2)
    first, last = lines(one / "truth.jsonl")
    assert (first["step"], last["step"]) == (0, 2)
    evaluated = lines(one / "policy" / "evaluations.jsonl")[-1]
    assert last["proxy"] == pytest.approx([sum(scores) / 2 for scores in evaluated["reward"]])
    assert last["true"] == pytest.approx([sum(map(_letters, texts)) / 2 for texts in evaluated["texts"]])
    before = contents(tmp_path / "loop")
    (one / "truth.jsonl").unlink()
    again = rlhf("feedback", "loop", *FEW, "display=plain", "time_limit=1h", *REWARD_MODEL)
    few = "config=tiny model.layers=1 steps=2 evaluate.every=2 evaluate.samples=2 max_new_tokens=4"
    options = f"{few} 'sinks=[]' display=quiet"
    more = f"display=plain time_limit=1h --reward-model '{REWARD_MODEL[1]}' --rounds 2"
    following = (
        "Next\n  rlhf generate loop/round-1/policy --reference 'Describe a long queue in one sentence.'\n"
        f"  rlhf label loop/round-1/policy\n  rlhf feedback loop {options} --pairs 24 {more}\n"
    )
    assert (again.code, again.out) == (0, done.out + following)
    assert "round 1: " not in again.err
    assert contents(tmp_path / "loop") == before
    other = rlhf("feedback", "loop", *FEW, "beta=0.5", *REWARD_MODEL)
    assert other.code == 5
    assert other.err.startswith("error: the rounds began with beta.value = 0.01 ")
    assert contents(tmp_path / "loop") == before
    with hold(tmp_path / "loop"):
        busy = rlhf("feedback", "loop", *FEW, *REWARD_MODEL)
    assert (busy.code, busy.err) == (
        2,
        f"error: another process is working in this folder of rounds ({tmp_path}/loop); "
        "fix: wait for it, or give another FOLDER\n",
    )
    assert rlhf("report", "loop").code == 0


def _letters(text: str) -> float:
    """The reward of config=tiny."""
    return sum(letter in "abcdefghijklmnopqrstuvwxyz" for letter in text) / len(text) if text else 0.0


def test_people_vote_before_a_round_goes_on(rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy's scores are the lengths of its texts: that they are the reward model's is in the test above."""
    file = tmp_path / "short.py"
    file.write_text("def make_score(**options): return lambda completions: [*map(len, completions)]\n")
    monkeypatch.setattr(Model, "factory", f"{file}:make_score")
    command = (
        "feedback",
        "ours",
        *FEW,
        "--annotator",
        "person",
        *REWARD_MODEL,
    )
    waits = rlhf(*command)
    assert waits.code == 75
    pairs = tmp_path / "ours" / "round-1" / "pairs.jsonl"
    rows = lines(pairs)
    assert all("rewards" not in row for row in rows)
    count = sum(row["a"].strip() != row["b"].strip() for row in rows)
    said = f"stopped: no vote yet on {count} pairs of round 1: rlhf label ours/round-1/pairs.jsonl; the same"
    assert said in waits.err
    monkeypatch.setattr(sys, "stdin", io.StringIO("s\n" * (count - 3) + "1\n" * 3))
    assert rlhf("label", "ours/round-1/pairs.jsonl").code == 0
    for _ in range(2):  # nothing stands in the way of more votes
        few = rlhf(*command)
        assert few.code == 3
        assert "fewer than evaluate.prompts=4 (" in few.err
        fix = "fix: let somebody else vote too, then give this command again: rlhf label ours/round-1/pairs.jsonl"
        assert few.err.endswith(f"ours/round-1/pairs.jsonl); {fix} --rater NAME\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n" * count))
    assert rlhf("label", "ours/round-1/pairs.jsonl", "--rater", "anna").code == 0
    goes_on = rlhf(*command, "display=plain")
    assert goes_on.code == 0, goes_on.err
    assert "Written to ours/round-1/reward-model" in goes_on.out
    assert goes_on.out.count("Next") == 1  # that of the rounds, not of each run
    assert len(lines(pairs.with_name("preferences.jsonl"))) == count
    assert (pairs.with_name("policy") / "result.json").is_file()


@pytest.mark.parametrize("at", ["do_round", "write_after_training"])
def test_ctrl_c_between_two_runs_can_be_resumed(at: str, rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(feedback, "do_round", lambda *arguments: None)
    monkeypatch.setattr(feedback, at, interrupted)
    stopped = rlhf("feedback", "loop", *FEW, *REWARD_MODEL)
    assert (stopped.code, stopped.err) == (75, "stopped: interrupted; the same command of rlhf feedback goes on\n")


def test_a_figure_without_an_interval_is_null_in_json(rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(one: Round, *more: object) -> None:
        one.folder.mkdir()
        write_truth(one.truth, [Truth(step, [0], [0.0], [0.5 * step], [1.0 * step]) for step in (0, 2)])

    monkeypatch.setattr(feedback, "do_round", measured)
    done = rlhf("feedback", "loop", *FEW, "display=json", *REWARD_MODEL)
    end = json.loads(done.out, parse_constant=pytest.fail)
    assert list(end) == ["folder", "rounds"]
    (row,) = end["rounds"]
    assert row["true"] == {"mean": 2.0, "half_width": None, "count": 1}


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("run_dir=x",), "run_dir is for one run (rlhf feedback); fix: leave it out: each round has its own folders"),
        (("evaluate.every=0",), "without evaluations the true reward cannot be measured (evaluate.every)"),
        (
            ("--pairs", "15"),
            "15 pairs, fewer than a reward model's step and its held-out rows: 8 and 8 (--pairs)",
        ),
        (("--reward-model", "stpes=3"), "unknown setting 'stpes'; did you mean steps?"),
        (
            ("--reward-model", "run_dir=x"),
            "run_dir is for one run (rlhf feedback); fix: leave it out: each round has its",
        ),
        (
            ("--reward-model", "model.lora.rank=8"),
            "model is the same for the policy and its reward model (--reward-model)",
        ),
        (
            ("--reward-model", "data.path=x"),
            "a reward model learns from the votes of the rounds (--reward-model); fix: ",
        ),
        (("--reward-model", "steps='3"), "No closing quotation: steps='3 (--reward-model); fix: close the quote"),
        (("--ties", "1"), "argument --ties: must be 0 to 0.99 (got 1) (rlhf feedback)"),
        (("--noise", "0"), "argument --noise: must be 1e-09 or more (got 0) (rlhf feedback)"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_written(
    arguments: tuple[str, ...], what: str, rlhf: Rlhf, tmp_path: Path
) -> None:
    refused = rlhf("feedback", "loop", "config=tiny", *arguments)
    assert (refused.code, refused.err.splitlines()[0][: len(what) + 7]) == (2, f"error: {what}")
    assert list(tmp_path.iterdir()) == []
