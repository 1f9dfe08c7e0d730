"""report.rounds_page: of rounds made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rlhf_cli.feedback.pairs import read_pairs, write_rows
from rlhf_cli.feedback.preference import Row
from rlhf_cli.feedback.votes import Vote, VoteFile
from rlhf_cli.report.rounds_page import html, summary, verdict
from rlhf_cli.report.writing import page_of
from rlhf_cli.rounds.folder import FeedbackSettings, keep_settings, make_folder, rounds_in
from rlhf_cli.rounds.truth import write_truth
from tests.pages import parse
from tests.unit.charts.drawn import SVG
from tests.unit.report.samples import REWARD_MODEL_RESULT as RESULT
from tests.unit.rounds.samples import truth

SETTINGS = FeedbackSettings(("config=tiny", "beta=0.1<"), (), 2, 16, "simulated", 0.5, 0.1, {})


def headings(page: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in page.iter("h2")]


def test_true_and_proxy_reward_stand_side_by_side(tmp_path: Path) -> None:
    folder = tmp_path / "loop"
    make_folder(folder)
    keep_settings(folder, SETTINGS)
    first, second = rounds_in(folder, 2)
    first.folder.mkdir()
    write_rows(first.pairs, [Row("p", "x", "y", (1.0, 0.0))])
    (pair,) = read_pairs(first.pairs)
    VoteFile(first.pairs).append(Vote("2026-11-29T00:00:00+00:00", "simulated", pair.id, "a", "b", 1.0))
    write_truth(first.truth, [truth(0, 0.0, 0.0, 0.0), truth(10, 1.0, 1.0, 1.0), truth(20, 4.0, 2.0, 0.5)])
    first.reward_model.mkdir()
    RESULT.write(first.reward_model)
    first.policy.mkdir()
    (first.policy / "report.html").touch()
    text = page_of([folder])
    page = parse(text)
    assert headings(page) == ["True reward", "Over-optimisation", "Round 1", "Settings"]
    charts = [one.get("aria-label", "") for one in page.iter(f"{SVG}svg")]
    assert charts == ["True reward against KL", "Score of the reward model against KL"]
    assert [link.get("href") for link in page.iter("a")] == ["./round-1/policy/report.html"]
    cells = ["".join(cell.itertext()) for cell in page.iter("td")]
    assert cells == [
        "75.0% [50.0%, 87.5%]", "+2.000 ± 0.000", "0.000 ± 0.248", "0.500 ± 0.248", "+0.500 ± 0.000", "4.00 ± 0.00",
    ]  # fmt: skip
    votes = ["".join(line.itertext()) for line in page.iter("dd")][:3]
    assert votes[:2] == ["1", "1 a"]
    assert votes[2].startswith("the votes agree with the hidden reward 100.0%")
    assert "beta=0.1&lt;" in text
    assert "simulated: noise 0.5, 10% ties" in text
    assert second.truth.exists() is False


def test_before_the_first_measurement_the_page_says_so(tmp_path: Path) -> None:
    text = html(tmp_path, replace(SETTINGS, annotator="person"))
    assert headings(parse(text)) == ["True reward", "Settings"]
    assert "No round has been measured" in text


def test_the_verdict_of_a_round() -> None:
    start, peak, end = truth(0, 0.0, 0.0, 0.0), truth(10, 1.0, 1.0, 1.0), truth(20, 4.0, 2.0, 0.5)
    assert verdict(1, [start, peak]) == (
        "Round 1: the true reward rose, +1.000 ± 0.000 on 3 held-out prompts, for 1.00 nats of KL; "
        "the reward model's score changed by +1.000 ± 0.000."
    )
    assert verdict(2, [start, peak, end]).endswith(
        " It was highest at step 10, and changed by -0.500 ± 0.000 from there while the score rose: over-optimisation."
    )
    figures = summary(2, [start, peak, end])
    assert (figures["round"], figures["kl"], figures["overoptimised_from"]) == (2, 4.0, 10)
    assert figures["true"] == {"mean": 0.5, "half_width": pytest.approx(0.0, abs=1e-9), "count": 3}
    assert summary(1, [start, peak])["overoptimised_from"] is None
    assert "the true reward fell" in verdict(1, [peak, end])
    assert "did not change measurably" in verdict(1, [start, replace(start, true=[0.5, -0.5, 0.2])])
