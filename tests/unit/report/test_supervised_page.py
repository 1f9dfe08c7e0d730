"""report.supervised_page: of a run made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from rlhf_cli.evaluation.intervals import Interval
from rlhf_cli.report import writing
from rlhf_cli.report.supervised_page import html, reliability_chart, verdict
from rlhf_cli.runs.listing import RunStatus
from rlhf_cli.runs.reading import SavedRun
from tests.pages import parse, said
from tests.unit.charts.drawn import SVG
from tests.unit.report.samples import HOSTILE, sample_run
from tests.unit.report.samples import REWARD_MODEL_RESULT as RESULT


def run_in(folder: Path, **changes: Any) -> SavedRun:
    """A reward model's run in a folder that exists."""
    status = RunStatus(folder, "finished", None, 4, 8, None, None, None, None, 0.0, verb="reward train", stalled=True)
    metrics = [{"step": 0, "heldout/loss": 0.693}]
    metrics += [{"step": step, "loss": 0.7 - 0.1 * step, "accuracy": 0.5, "grad_norm": 1.0} for step in (1, 2, 3, 4)]
    metrics[2] |= {"heldout/loss": 0.5, "heldout/calibration_error": 0.05}
    config = {
        "model": {"kind": "tiny"},
        "objective": {"kind": "bradley_terry", "chosen": HOSTILE, "centre": 0.01},
        "prompts_per_step": 4,
    }
    return replace(sample_run(), status=status, config=config, metrics=tuple(metrics), result=None, **changes)


def sections(text: str) -> dict[str, ElementTree.Element]:
    return {section.findtext("h2") or "": section for section in parse(text).iter("section")}


def test_every_section_is_there(tmp_path: Path) -> None:
    RESULT.write(tmp_path)
    text = html(run_in(tmp_path))
    found = sections(text)
    assert list(found) == ["Held-out rows", "How it stands", "Reliability", "Curves", "Time", "To repeat it"]
    standing = said(found["How it stands"])
    assert "step 4 of 8, ended early: no lower held-out loss in 1 evaluation" in standing
    assert "objective bradley_terry, centre 0.01, 4 rows a step" in standing
    rows = [[cell.text for cell in row] for row in found["Held-out rows"].iter("tr")]
    assert rows == [
        [None, "before", "after", "change"],
        ["loss", "0.693 ± 0.000", "0.500 ± 0.100", "-0.193 ± 0.100"],
        ["accuracy", "–", "75.0% [50.0%, 87.5%]", "–"],
    ]
    assert "After step 2, which was exported." in said(found["Held-out rows"])
    titles = [one.get("aria-label") for one in found["Curves"].iter(f"{SVG}svg")]
    assert titles == ["Loss", "Accuracy", "Expected calibration error", "Gradient norm"]
    assert "rlhf reward train config=tiny beta=0.5" in said(found["To repeat it"])
    assert parse(text).findtext("head/title") == f"{tmp_path.name}: tiny, a reward model from preferences"


def test_a_run_that_has_not_ended_has_its_curves(tmp_path: Path) -> None:
    found = sections(html(run_in(tmp_path)))
    assert list(found) == ["Held-out rows", "How it stands", "Curves", "Time", "To repeat it"]
    assert "The run has not ended" in said(found["Held-out rows"])


def test_the_verdict() -> None:
    assert verdict(RESULT) == "The held-out loss fell on 8 rows: -0.193 ± 0.100."
    up, unclear = Interval(0.2, 0.1, 0.3), Interval(0.1, -0.1, 0.3)
    assert verdict(replace(RESULT, change={"loss": up})).startswith("The held-out loss rose")
    assert verdict(replace(RESULT, change={"loss": unclear})).startswith("The held-out loss did not change measurably")
    assert verdict(replace(RESULT, change={})).startswith("Nothing to compare")


def test_the_reliability_diagram() -> None:
    pairs, line = reliability_chart(RESULT).series
    assert (pairs.xs, pairs.ys, pairs.low, pairs.high) == ([0.6, 0.9], [0.5, 1.0], [0.2, 0.5], [0.8, 1.0])
    assert pairs.names == ["6", "2"]
    assert line.xs == line.ys == [0.5, 1.0]


def test_runs_of_supervised_training_have_a_page_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "read_run", run_in)
    RESULT.write(tmp_path)
    assert writing.page_of([tmp_path]) == html(run_in(tmp_path))
