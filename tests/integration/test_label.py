"""`rlhf label`: pairs of a run, of two runs, of a file."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from rlhf_cli.runs.lock import hold
from tests.support import QUICK, Outcome, lines

Rlhf = Callable[..., Outcome]


@pytest.fixture
def label(rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Run `rlhf label ...` with lines on stdin."""

    def call(*argv: str, typed: str = "") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        return rlhf("label", *argv)

    return call


def file_of(folder: Path, count: int = 6) -> Path:
    file = folder / "pairs.jsonl"
    rows = [{"prompt": f"prompt {n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(count)]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def test_a_run_is_labelled_and_gone_on_with(finished: Path, label: Callable[..., Outcome], tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "out")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    first = label("out", typed="1\nt\n")
    assert first.code == 0, first.err
    assert "reading the prompts of out ..." in first.err
    assert "policy (step 6) (a) against reference (b)" in first.out
    (pairs,) = (run / "feedback").glob("*[!s].jsonl")
    rows = lines(pairs)
    last, reference = lines(run / "evaluations.jsonl")[-1], lines(run / "evaluations.jsonl")[0]
    assert [row["a"] for row in rows] == [texts[0] for texts in last["texts"]]
    assert [row["b"] for row in rows] == [texts[1] for texts in reference["texts"]]
    assert len({row["prompt"] for row in rows}) == 4
    again = label("out", "--json", typed="1\n1\n1\n")
    assert "reading the prompts" not in again.err
    result = json.loads(again.out)
    assert result["result"]["votes"] == 4
    assert Path(result["votes_file"]).name == f"{pairs.stem}.votes.jsonl"
    assert {path: path.read_bytes() for path in before} == before


def test_the_prompts_are_those_that_were_answered(
    finished: Path, label: Callable[..., Outcome], tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    assert label("out").code == 0
    (pairs,) = (tmp_path / "out" / "feedback").glob("*.jsonl")
    asked = {row["prompt"] for row in lines(pairs)}
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert asked == {text["prompt"] for text in result["texts"]}


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that left pairs at steps 2 and 4, and a vote between; leave it as it is."""
    from rlhf_cli.cli import run

    folder = tmp_path_factory.mktemp("asking") / "out"
    steps = ("steps=4", "evaluate.every=2", "evaluate.human=2", "checkpoint.every=4")
    assert run(["train", *QUICK, *steps, f"run_dir={folder}"]) == 0
    return folder


def test_the_pairs_of_a_run_that_asks_are_there_without_a_model(
    asking: Path, label: Callable[..., Outcome], tmp_path: Path
) -> None:
    """The newest step first, then the one before; the prompts are not read again."""
    shutil.copytree(asking, tmp_path / "out")
    result = json.loads(label("out", "--json", typed="1\n" * 5).out)
    assert [(step["a"], step["result"]["votes"]) for step in result["steps"]] == [
        ("policy (step 2)", 1), ("policy (step 4)", 4),
    ]  # fmt: skip
    assert (result["a"], result["result"]["votes"]) == ("policy (step 4)", 4)
    found = label("out", typed="u\n")
    assert "reading the prompts" not in found.err
    assert "by step     policy (step 4)" not in found.out  # one step alone has votes
    assert "compared    policy (step 4) (a) against reference (b)" in found.out


def test_it_waits_for_a_run_at_work(asking: Path, label: Callable[..., Outcome], tmp_path: Path) -> None:
    """Who comes before the first pairs waits for them; the end of the input ends the wait."""
    run = shutil.copytree(asking, tmp_path / "out")
    for file in (run / "feedback").iterdir():
        file.unlink()
    with hold(run):
        found = label("out")
    assert (found.code, found.out) == (0, "pairs       none yet\n")
    assert "no pair waits; the run has done step 4, and leaves pairs every 2 steps; q leaves" in found.err
    assert label("out").out.startswith("compared    policy (step 4)")  # it has ended: those of its newest evaluation
    (tmp_path / "new").mkdir()
    with hold(tmp_path / "new"):
        found = label("new")
    assert (found.code, found.err.count("\n")) == (5, 1)
    assert "the run has not begun yet" in found.err


def test_votes_on_a_step_that_was_done_again_are_said(
    asking: Path, label: Callable[..., Outcome], tmp_path: Path
) -> None:
    run = shutil.copytree(asking, tmp_path / "out")
    label("out", typed="1\n")
    (votes,) = (run / "feedback").glob("*.votes.jsonl")
    old = votes.name.replace(votes.name[14:22], "0a1b2c3d")
    votes.rename(votes.with_name(old))
    pairs = votes.with_name(votes.name.replace(".votes", ""))
    shutil.copyfile(pairs, pairs.with_name(old.replace(".votes", "")))
    found = label("out")
    what = "on texts of a step that was done again, or of a changed line of queue.jsonl"
    assert f"note: 1 line of {old} {what}: not counted" in found.err
    assert "no vote yet" in found.out


def test_two_runs(finished: Path, label: Callable[..., Outcome], tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(finished, tmp_path / name)
    found = label("one", "two", typed="1\n")
    assert found.code == 0, found.err
    assert "one (step 6) (a) against two (step 6) (b)" in found.out
    assert label("one", "one").code == 2


def test_a_file(label: Callable[..., Outcome], tmp_path: Path) -> None:
    file = file_of(tmp_path)
    found = label("pairs.jsonl", "--rater", "anna", "--choose", "informative", "--show", typed="1\n2\nt\n")
    assert found.code == 0, found.err
    assert "no rewards in the file" in found.err
    assert "no vote yet" in found.err
    assert found.out.startswith("compared    a against b\n")
    assert [line["rater"] for line in lines(file.with_name("pairs.votes.jsonl"))] == ["anna"] * 3


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["nowhere"], 5, "no such folder (nowhere); fix: name a run's folder"),
        (["nowhere.jsonl"], 3, "no such file of pairs"),
        (["."], 5, "no run here"),
        ([".", "x.jsonl"], 5, "no run here"),
        (["a", "b", "c"], 2, "give one run, two runs or one file of pairs"),
        (["x.jsonl", "--rater", ""], 2, "argument --rater: must not be empty"),
        (["x.jsonl", "--choose", "best"], 2, "invalid choice"),
        (["x.jsonl", "--seed", "-1"], 2, "must be 0 or more"),
        (["x.jsonl", "--web", "--port", "65536"], 2, "argument --port: must be 0 to 65535 (got 65536)"),
        (["x.jsonl", "half.jsonl"], 5, "a file, beside another"),
        (["empty.jsonl"], 3, "no pair in the file"),
        (["half.jsonl"], 3, "not JSON"),
        (["apart.jsonl"], 3, "begin with nothing that both have (apart.jsonl:1)"),
    ],
)
def test_mistakes_are_one_line(
    argv: list[str], code: int, said: str, label: Callable[..., Outcome], tmp_path: Path
) -> None:
    file_of(tmp_path).rename(tmp_path / "x.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "half.jsonl").write_text('{"prompt": "p"')
    (tmp_path / "apart.jsonl").write_text('{"chosen": "Yes", "rejected": "No"}\n')
    outcome = label(*argv)
    assert outcome.code == code, outcome.err
    assert outcome.err.startswith("error: ")
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
    assert not list(tmp_path.glob("*.votes.jsonl"))


def test_a_run_without_samples(finished: Path, label: Callable[..., Outcome], tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "out")
    (run / "evaluations.jsonl").write_text("")
    outcome = label("out")
    assert (outcome.code, outcome.err.count("\n")) == (3, 1)
    assert "no held-out completions to compare" in outcome.err
    assert not (run / "feedback").exists()


def test_a_run_whose_record_is_gone(finished: Path, label: Callable[..., Outcome], tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("feedback", "run.json"))
    outcome = label("run")
    assert outcome.code == 3
    assert "error: run.json does not say which prompts the run had (" in outcome.err


def test_votes_that_do_not_count_are_said(label: Callable[..., Outcome], tmp_path: Path) -> None:
    file = file_of(tmp_path)
    label("pairs.jsonl", typed="1\n1\n1\n")
    votes = tmp_path / "pairs.votes.jsonl"
    content = votes.read_text().splitlines()
    votes.write_text("\n".join([content[0].replace("rater", "ratre"), *content[1:], '{"time"']))
    file_of(tmp_path, 5)
    found = label("pairs.jsonl", typed="2\n")
    assert "note: pairs.votes.jsonl:1: no vote; it stays, and does not count" in found.err
    assert "note: pairs.votes.jsonl:4: half a line, as a kill leaves it; it stays, and does not count" in found.err
    assert votes.read_text().startswith(content[0].replace("rater", "ratre"))
    assert lines(file)[0]["prompt"] == "prompt 0"
    file.write_text(file.read_text().replace("prompt", "question").replace('"question"', '"prompt"'))
    assert " of pairs.votes.jsonl on pairs that are not asked here: not counted" in label("pairs.jsonl").err


def test_a_note_that_is_no_text_is_kept_as_far_as_it_is(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_of(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"n so \xff\n1\n"), errors="surrogateescape"))
    assert rlhf("label", "pairs.jsonl").code == 0
    assert lines(tmp_path / "pairs.votes.jsonl")[0]["note"] == "so \ufffd"


def test_the_page_is_an_extra(label: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file_of(tmp_path)
    for name in [name for name in sys.modules if name.startswith(("rlhf_cli.feedback.web", "starlette"))]:
        monkeypatch.delitem(sys.modules, name)  # of starlette, its modules too: one that was loaded would be found
    monkeypatch.setitem(sys.modules, "starlette", None)
    outcome = label("pairs.jsonl", "--web")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "fix: pip install 'rlhf-cli[label]'" in outcome.err


KILLED: Final = """
import io, os, random, signal, sys, time
import rlhf_cli.commands.results.label
from rlhf_cli.cli import run

kills, acknowledged = int(sys.argv[1]), 0
rng, write = random.Random(kills), os.write

def torn(handle, data):
    time.sleep(0.001)
    return write(handle, data[: len(data) // 2 + 1])

for _ in range(kills):
    reading, writing = os.pipe()
    labeller = os.fork()
    if not labeller:
        os.dup2(writing, 2)
        os.write = torn
        sys.stdin = io.StringIO("1\\n" * 999)
        os._exit(run(["label", "pairs.jsonl"]))
    os.close(writing)
    with open(reading, encoding="utf-8") as said:
        first = [said.readline() for _ in range(rng.randrange(9, 99))]  # nine lines a question
        time.sleep(rng.uniform(0.0, 0.01))
        os.kill(labeller, signal.SIGKILL)
        acknowledged += (*first, *said).count("saved\\n")
    os.waitpid(labeller, 0)
print(acknowledged)
"""
"""Kill labeller after labeller. Each vote is written in several pieces, with time for a kill between any two."""


@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_kills_lose_no_acknowledged_vote(kills: int, tmp_path: Path) -> None:
    file_of(tmp_path, 30 * kills)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(kills)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    acknowledged = int(done.stdout)
    content = (tmp_path / "pairs.votes.jsonl").read_bytes().split(b"\n")
    whole = [json.loads(line) for line in content if line.startswith(b"{") and line.endswith(b"}")]
    assert acknowledged > kills
    assert acknowledged <= len(whole) <= acknowledged + kills
    assert len({line["pair"] for line in whole}) == len(whole)


def test_votes_are_exported_as_preferences(finished: Path, label: Callable[..., Outcome], tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    nothing = label("out", "--export", "chosen.jsonl")
    assert (nothing.code, nothing.err[:6]) == (3, "error:")
    assert not (tmp_path / "out" / "feedback").exists()
    assert label("out", typed="1\nt\nb\n").code == 0
    found = label("out", "--export", "chosen.jsonl")
    assert found.out == "chosen.jsonl: 2 preferences, 1 of them tied, 1 both bad left out\n"
    assert {row["share"] for row in lines(tmp_path / "chosen.jsonl")} == {0.5, 1.0}
    file_of(tmp_path)
    assert label("pairs.jsonl", typed="1\n").code == 0
    result = json.loads(label("pairs.jsonl", "--export", "more.jsonl", "--json").out)
    assert result == {"file": str(tmp_path / "more.jsonl"), "preferences": 1, "ties": 0, "left_out": {}}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ("--export", "x.jsonl", "--rater", "anna"),
            "--export asks nothing and takes the votes of everybody, so --rater",
        ),
        (("--export", "x.jsonl", "--web"), "--export asks nothing and takes the votes of everybody, so --web"),
        (("--port", "8000"), "--port is for the page of --web"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    argv: tuple[str, ...], said: str, label: Callable[..., Outcome], tmp_path: Path
) -> None:
    outcome = label(str(file_of(tmp_path)), *argv)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {said}")
    assert not (tmp_path / "x.jsonl").exists()
