"""The page of several runs: names, levels, paired differences where they mean something, settings that differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from rlhf_cli.report.comparison_page import html, own_steps, short_names, why_not_paired
from rlhf_cli.runs.binding import PARENT, write_record
from rlhf_cli.runs.reading import SavedRun
from tests.pages import parse, said
from tests.unit.charts.drawn import SVG
from tests.unit.evaluation.samples import AFTER
from tests.unit.report.samples import EMPTY, HOSTILE, hostile_run, sample_run
from tests.unit.support import config_fields

BETTER = replace(AFTER, reward=[[5.0, 7.0], [2.0, 3.0]])
"""One more than AFTER, everywhere."""


def other(**changes: Any) -> SavedRun:
    config = config_fields(run_dir="/runs/b", seed=7, optimizer={"kind": "adamw", "lr": 0.02})
    return sample_run("/runs/b", **{"last": BETTER, "config": config, **changes})


def sections(*runs: SavedRun) -> dict[str, ElementTree.Element]:
    return {section.findtext("h2") or "": section for section in parse(html(runs)).iter("section")}


def cells(section: ElementTree.Element) -> list[list[str | None]]:
    return [[cell.text for cell in row] for row in section.iter("tr")]


def test_every_section_is_there() -> None:
    found = sections(sample_run(), other())
    assert list(found) == ["Held-out prompts", "Against a", "Curves", "Settings that differ"]
    levels = cells(found["Held-out prompts"])
    assert levels[0][3:6] == ["J", "reward", "KL, nats"]
    assert levels[1][:3] == ["a", "finished", "4"]
    assert levels[1][4] == "3.250 ± 22.236"
    assert levels[2][4] == "4.250 ± 22.236"
    assert len(list(found["Curves"].iter(f"{SVG}svg"))) == 8  # J, reward and KL twice; length and cut held-out alone


def test_differences_are_paired() -> None:
    # one more at every completion: no spread in the difference, whatever that of the levels
    rows = cells(sections(sample_run(), other())["Against a"])
    assert rows[0] == [None, "a", "b", "difference"]
    assert rows[2] == ["reward", "3.250 ± 22.236", "4.250 ± 22.236", "+1.000 ± 0.000"]
    # with the beta of the second: 3.25 - 0.25 x 1.25 and 4.25 - 0.25 x 1.25
    rows = cells(sections(sample_run(), other(last=replace(BETTER, beta=0.25)))["Against a"])
    assert [cell and cell.split(" ±")[0] for cell in rows[1]] == ["J = reward − 0.25·KL", "2.938", "3.938", "+1.000"]


def test_settings_that_differ() -> None:
    rows = cells(sections(sample_run(), other())["Settings that differ"])
    assert rows[0] == [None, "a", "b"]
    assert ["seed", "0", "7"] in rows
    assert ["optimizer.lr", "0.01", "0.02"] in rows
    assert ["optimizer.eps", "1e-08", "–"] in rows
    assert not any(row[0] in ("run_dir", "steps") for row in rows)
    assert "None." in said(sections(sample_run(), sample_run("/runs/b"))["Settings that differ"])
    machine = sample_run("/runs/b", record={**sample_run().record, "packages": {"torch": "3.0"}})
    assert ["ran on.packages.torch", "2.13", "3.0"] in cells(sections(sample_run(), machine)["Settings that differ"])


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (other(), None),
        (other(last=None), "one of them was not evaluated after its start"),
        (other(record={"data": {"sha256": "other"}, "reward": {"sha256": None}}), "their prompts differ"),
        (other(record={}), "their prompts differ"),
        (other(record={"data": {"sha256": "abc"}, "reward": {"sha256": "new"}}), "their rewards differ"),
        (other(config=config_fields(reward={"kind": "sentiment"})), "their rewards differ"),
    ],
)
def test_what_can_be_paired(run: SavedRun, why: str | None) -> None:
    assert why_not_paired(sample_run(), run) == why
    against = said(sections(sample_run(), run)["Against a"])
    assert (f"a and b are not paired: {why}." in against) == (why is not None)


def test_two_runs_without_a_record_are_not_taken_for_the_same_data() -> None:
    assert why_not_paired(sample_run(record={}), other(record={})) == "their prompts differ"


def test_too_few_common_prompts_are_said() -> None:
    far = replace(BETTER, prompts=[1, 2])
    assert "a and b are not paired: too few prompts have scores in both." in said(
        sections(sample_run(), other(last=far))["Against a"]
    )


def test_runs_of_which_nothing_is_left() -> None:
    found = sections(EMPTY, replace(EMPTY, status=replace(EMPTY.status, folder=EMPTY.status.folder / "f")))
    assert list(found) == ["Held-out prompts", "Against e", "Settings that differ"]
    assert cells(found["Held-out prompts"])[1] == ["e", "broken", "–", "–", "–", "–", "–", "–", "–"]


def test_a_fork_is_drawn_from_where_it_leaves_a_run_before_it(tmp_path: Path) -> None:
    for name, step in (("fork", 2), ("other", 3)):
        (tmp_path / name).mkdir()
        told = {"folder": str(tmp_path / "parent"), "step": step, "checkpoint": name, "changed": {}}
        write_record(tmp_path / name, {PARENT: told})
    metrics = tuple({"step": step} for step in range(5))
    parent, fork, other_fork = (
        sample_run(str(tmp_path / name), metrics=metrics) for name in ("parent", "fork", "other")
    )

    def drawn(*runs: SavedRun) -> list[list[int]]:
        return [[row["step"] for row in own_steps(number, runs)] for number in range(len(runs))]

    whole = [0, 1, 2, 3, 4]
    assert drawn(parent, fork, other_fork) == [whole, [2, 3, 4], [3, 4]]
    assert drawn(fork, parent) == [whole, [2, 3, 4]]
    assert drawn(fork, other_fork) == [whole, whole]  # of one parent, which is not here, but from two of its steps


def test_no_text_breaks_the_page() -> None:
    text = html([hostile_run(), sample_run("/runs/b", config={HOSTILE: HOSTILE})])
    assert not {element.tag for element in parse(text).iter()} & {"script", "b"}
    assert "&lt;/script&gt;&lt;b&gt;&amp;·[31m ·" in text
    assert not {c for c in text if not c.isprintable() and c != "\n"}


def test_names_are_as_short_as_tells_them_apart() -> None:
    runs = [sample_run(folder) for folder in ("/x/1/a", "/x/2/a", "/x/2/b")]
    assert short_names(runs) == ["1/a", "2/a", "b"]
