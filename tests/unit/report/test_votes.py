"""report.votes: the section of the page, and what cannot be read."""

from __future__ import annotations

from pathlib import Path

from rlhf_cli.feedback.pairs import read_pairs, write_rows
from rlhf_cli.feedback.preference import Row
from rlhf_cli.feedback.votes import VoteFile
from rlhf_cli.report.run_page import html
from rlhf_cli.report.votes import labelled
from tests.pages import parse, said
from tests.unit.feedback.samples import vote
from tests.unit.report.samples import HOSTILE, sample_run

ROWS = [
    Row("p0", "x", f"y {HOSTILE}", (1.0, 0.0)),
    Row(f"p1 {HOSTILE}", "x", "y", (0.0, 3.0)),
    Row("p2", "x", "y", (2.0, 0.0)),
    Row("p3", "x", "y", (1.0, 1.0)),
    Row("p4", "x", "y", None),
]


def label(run: Path, words: str, name: str = "step-00000004-0a1b2c3d") -> Path:
    """A file of pairs with votes on the first of them."""
    run.mkdir(exist_ok=True)
    file = run / "feedback" / f"{name}.jsonl"
    write_rows(file, ROWS)
    for pair, word in zip(read_pairs(file), words, strict=False):
        VoteFile(file).append(vote(pair, {"a": "a", "b": "b", "t": "tie", "s": "skip"}[word]))
    return file


def test_disagreements_come_by_the_gap_of_the_rewards(tmp_path: Path) -> None:
    label(tmp_path / "run", "babba")
    (found,) = labelled(tmp_path / "run")
    assert [(one.prompt[:2], one.preferred[0], one.other[0]) for one in found.disagreements] == [
        ("p1", "policy (step 4) (reward 0.000)", "reference (reward 3.000)"),
        ("p2", "reference (reward 0.000)", "policy (step 4) (reward 2.000)"),
        ("p0", "reference (reward 0.000)", "policy (step 4) (reward 1.000)"),
    ]
    assert found.lines[0] == ("compared", "policy (step 4) (a) against reference (b)")


def test_ties_skips_and_agreement_are_no_disagreement(tmp_path: Path) -> None:
    label(tmp_path / "run", "tsa")
    assert labelled(tmp_path / "run")[0].disagreements == []


def test_the_section_of_the_page(tmp_path: Path) -> None:
    label(tmp_path / "run", "bb", "step-00000004-against-other_run-step-00000002-0a1b2c3d")
    page = html(sample_run(str(tmp_path / "run")))
    (section,) = [one for one in parse(page).iter("section") if one.findtext("h2") == "Votes of people"]
    words = said(section)
    assert "policy (step 4) (a) against other_run (step 2) (b)" in words
    assert "preferred: other_run (step 2) (reward 0.000)" in words
    assert "</script><b>&·[31m ·</p><svg onload=alert(1)>" in words


def test_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    run = tmp_path / "run"
    label(run, "")
    label(run, "a", "step-00000006-0a1b2c3d").write_text("{")
    label(run, "a", "someone-elses")
    assert labelled(run) == []
    assert labelled(tmp_path / "nowhere") == []
    assert "Votes of people" not in html(sample_run(str(run)))
