"""report.losses_page: runs made by hand, beside one another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.report import writing
from rlhf_cli.report.losses_page import html
from rlhf_cli.runs.listing import RunStatus
from rlhf_cli.runs.reading import SavedRun
from tests.pages import parse, said
from tests.unit.charts.drawn import SVG
from tests.unit.report.samples import REWARD_MODEL_RESULT, sample_run
from tests.unit.supervised.support import BRADLEY_TERRY


def run_in(folder: Path, losses: list[float], **objective: Any) -> SavedRun:
    """A finished run of a reward model that exported step 2; each pair's margin is minus its loss."""
    folder.mkdir()
    REWARD_MODEL_RESULT.write(folder)
    columns = {"loss": losses, "chosen": [0.0] * len(losses), "rejected": losses, "share": [1.0] * len(losses)}
    (folder / "evaluations.jsonl").write_text(json.dumps({"step": 2, "columns": columns}) + "\n")
    return replace(
        sample_run(),
        status=RunStatus(folder, "finished", None, 4, 8, None, None, None, None, 0.0, verb="reward train"),
        config={"objective": BRADLEY_TERRY | objective, "steps": len(losses)},
        metrics=({"step": 1, "loss": 0.7}, {"step": 2, "loss": 0.6, "heldout/loss": 0.5}),
        result=None,
    )


def sections(text: str) -> dict[str, ElementTree.Element]:
    return {section.findtext("h2") or "": section for section in parse(text).iter("section")}


def rows_of(section: ElementTree.Element) -> list[list[str | None]]:
    return [[cell.text for cell in row] for row in section.iter("tr")]


def test_differences_are_paired_by_row(tmp_path: Path) -> None:
    """-0.5, -1 and -0.5: mean -2/3, standard error 1/6, and 4.3027 of them to each side."""
    runs = [run_in(tmp_path / "a", [1.0, 2.0, 3.0]), run_in(tmp_path / "b", [0.5, 1.0, 2.5])]
    found = sections(html(runs))
    assert list(found) == ["Held-out rows", "Against a", "Curves", "Settings that differ"]
    assert rows_of(found["Held-out rows"])[1:] == [
        [name, "rlhf reward train", "finished", "step 2", "0.500 ± 0.100", "75.0% [50.0%, 87.5%]"] for name in "ab"
    ]
    head, loss, margin = rows_of(found["Against a"])
    assert head == [None, "a", "b", "difference"]
    assert (loss[0], loss[3]) == ("loss", "-0.667 ± 0.717")
    assert (margin[0], margin[3]) == ("margin", "+0.667 ± 0.717")
    titles = [one.get("aria-label") for one in found["Curves"].iter(f"{SVG}svg")]
    assert titles == ["Loss, held-out", "Loss, training"]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"losses": [0.5, 1.0, 2.5], "centre": 0.5}, "their objectives differ"),
        ({"losses": [0.5, 1.0]}, "their rows differ"),
    ],
)
def test_what_cannot_be_paired_is_said(other: dict[str, Any], why: str, tmp_path: Path) -> None:
    runs = [run_in(tmp_path / "a", [1.0, 2.0, 3.0]), run_in(tmp_path / "b", **other)]
    assert f"a and b are not paired: {why}." in said(sections(html(runs))["Against a"])


def test_a_run_that_has_not_ended_is_there_without_figures(tmp_path: Path) -> None:
    runs = [run_in(tmp_path / name, [1.0, 2.0, 3.0]) for name in "ab"]
    (tmp_path / "b" / "result.json").unlink()
    found = sections(html(runs))
    assert rows_of(found["Held-out rows"])[2] == ["b", "rlhf reward train", "finished", "–", "–", "–"]
    assert "not paired: one of them has not ended, or has no evaluation that can be read." in said(found["Against a"])


def test_losses_of_different_objectives_are_drawn_apart(tmp_path: Path) -> None:
    """The second of three runs is of another verb; it keeps its colour in charts of its own."""
    runs = [run_in(tmp_path / name, [1.0, 2.0, 3.0]) for name in "abc"]
    runs[1] = replace(runs[1], status=replace(runs[1].status, verb="dpo"))
    charts = {one.get("aria-label"): one for one in sections(html(runs))["Curves"].iter(f"{SVG}svg")}
    assert list(charts) == [
        "Loss, held-out, rlhf reward train", "Loss, training, rlhf reward train",
        "Loss, held-out, rlhf dpo", "Loss, training, rlhf dpo",
    ]  # fmt: skip
    for title, chart in charts.items():
        names = "b" if "dpo" in str(title) else "ac"
        assert [one.text for one in chart.iter(f"{SVG}text") if one.text in {*"abc"}] == [*names]
        looks = {part for one in chart.iter() for part in one.get("class", "").split()}
        assert looks & {"c0", "c1", "c2"} == {f"c{'abc'.index(name)}" for name in names}


@pytest.mark.parametrize(
    "columns",
    [
        {"loss": [1.0, 2.0, 3.0]},
        {"loss": [1.0, 2.0, 3.0], "chosen": [0.0], "rejected": [1.0], "share": [1.0]},
        {name: [1e200, 1.0, 1.0] for name in ("loss", "chosen", "rejected", "share")},
        {name: list[float]() for name in ("loss", "chosen", "rejected", "share")},
        {},
    ],
    ids=["columns are gone", "of different lengths", "a number too large", "without rows", "nothing"],
)
def test_a_damaged_evaluation_is_passed_over(columns: dict[str, list[float]], tmp_path: Path) -> None:
    runs = [run_in(tmp_path / name, [1.0, 2.0, 3.0]) for name in "ab"]
    (tmp_path / "b" / "evaluations.jsonl").write_text(json.dumps({"step": 2, "columns": columns}) + "\n")
    assert "or has no evaluation that can be read." in said(sections(html(runs))["Against a"])


def test_an_objective_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    runs = [run_in(tmp_path / name, [1.0, 2.0, 3.0], centre="much") for name in "ab"]
    assert "a and b are not paired: the objective cannot be read." in said(sections(html(runs))["Against a"])


def test_runs_of_both_kinds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = run_in(tmp_path / "a", [1.0, 2.0]), sample_run()
    monkeypatch.setattr(writing, "read_run", {Path("a"): own, Path("b"): other}.__getitem__)
    assert writing.page_of([Path("a"), Path("a")]) == html([own, own])
    with pytest.raises(UserError, match="and these are of both"):
        writing.page_of([Path("b"), Path("a")])
