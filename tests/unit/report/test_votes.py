"""report.votes: the section of the page, and what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_several_steps_have_curves_and_one_list_of_disagreements(tmp_path: Path) -> None:
    """The reward prefers the policy on p0 and p2, the reference on p1, neither on p3; p4 has no rewards."""
    label(tmp_path / "run", "abab", "step-00000004-0a1b2c3d")
    label(tmp_path / "run", "bbb", "step-00000008-over-00000004-0a1b2c3d")
    label(tmp_path / "run", "b", "step-00000004-against-other_run-step-00000002-0a1b2c3d")
    own, other = labelled(tmp_path / "run")
    win, agreement = own.charts
    people, reward = win.series
    assert (people.xs, people.ys) == ([4.0, 8.0], [0.5, 0.0])
    assert people.low is not None
    assert people.low[1] == 0.0
    assert reward.ys == [pytest.approx((1 + 0 + 1 + 0.5) / 4)] * 2
    assert agreement.series[0].ys == [1.0, pytest.approx(1 / 3)]
    assert [line for line in own.lines if line[0] in ("compared", "by step")] == [
        ("compared", "policy (step 8) (a) against policy (step 4) (b)"),
        ("by step", "policy (step 4) 50.0% [15.0%, 85.0%] against reference, 4 votes"),
    ]
    assert [(one.prompt, one.gap) for one in own.disagreements] == [("p2", 2.0), (ROWS[0].prompt, 1.0)]
    assert other.charts == []
    page = html(sample_run(str(tmp_path / "run")))
    (section,) = [one for one in parse(page).iter("section") if one.findtext("h2") == "Votes of people"]
    assert "The policy wins" in said(section)


def test_votes_on_a_step_that_was_done_again_are_said_and_not_counted(tmp_path: Path) -> None:
    run = tmp_path / "run"
    new, old = (label(run, words, f"step-00000004-{n}a1b2c3d") for n, words in ((1, "a"), (2, "bb")))
    (run / "feedback" / "queue.jsonl").write_text(f'{{"step": 4, "pairs": "{new.stem}", "votes": {{}}}}\n')
    found, lost = labelled(run)
    assert dict(found.lines)["me"] == "1 a"
    assert dict(lost.lines)["not counted"].startswith("2 votes on texts of steps that were done again")
    assert old.is_file()


def test_votes_that_do_not_count_are_said_also_where_no_others_are(tmp_path: Path) -> None:
    run = tmp_path / "run"
    label(run, "bb", "step-00000004-2a1b2c3d")
    (run / "feedback" / "queue.jsonl").write_text('{"step": 4, "pairs": "step-00000004-1a1b2c3d", "votes": {}}\n')
    (lost,) = labelled(run)
    assert dict(lost.lines)["not counted"].startswith("2 votes on texts of steps that were done again")


def test_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    run = tmp_path / "run"
    label(run, "")
    label(run, "a", "step-00000006-0a1b2c3d").write_text("{")
    label(run, "a", "someone-elses")
    assert labelled(run) == []
    assert labelled(tmp_path / "nowhere") == []
    assert "Votes of people" not in html(sample_run(str(run)))
