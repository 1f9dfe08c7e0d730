"""report.sweep_page and report.frontier, of sweeps made by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rlhf_cli.charts.pictures import Chart
from rlhf_cli.charts.svg import svg
from rlhf_cli.evaluation.oracle import CurvePoint
from rlhf_cli.report.frontier import frontier
from rlhf_cli.report.sweep_page import html
from rlhf_cli.sweep.answer import Answer, answer
from rlhf_cli.sweep.record import Ending, SweepRecord, Trial
from tests.pages import parse
from tests.unit.charts.drawn import SVG, corners, of_class
from tests.unit.sweep.made import two_by_two, write_trial

HOSTILE = "</title><script>alert(1)</script>\x1b[31m&"


def drawn(found: Answer) -> Chart:
    return frontier(found.oracle, found.points, found.recommended)


def headings(text: str) -> list[str]:
    return [element.text or "" for element in parse(text).iter("h2")]


def pictures(text: str) -> dict[str, ElementTree.Element]:
    return {one.get("aria-label", ""): one for one in parse(text).iter(f"{SVG}svg")}


def test_the_page_has_every_part(tmp_path: Path) -> None:
    sweep = two_by_two(tmp_path / "s")
    text = html(sweep, answer(sweep))
    assert headings(text) == [
        "Recommended: point 2 (beta=0.1, temperature=1)",
        "Over both settings",
        "Reward against KL",
        "The points",
        "Learning curves",
        "The trials",
        "Again",
    ]
    assert list(pictures(text)) == [
        "J = reward - 0.1·KL, by beta and temperature",
        "Reward against KL to the reference",
        "On the held-out prompts",
        "On the completions of each step",
    ]
    assert sweep.command in text
    assert len(text) < 1_000_000
    points, trials = (list(table.iter("tr"))[1:] for table in parse(text).iter("table"))
    assert (len(points), len(trials)) == (4, 8)
    assert [row.get("class") for row in points] == [None, "strong", None, None]
    assert "0.505 ± 0.064" in "".join(points[1].itertext())
    assert [link.text for link in points[1].iter("a")] == ["seed 0", "seed 1"]
    assert [row[0].text for row in points] == ["1*", "2*", "3", "4*"]


def test_the_page_loads_and_runs_nothing(tmp_path: Path) -> None:
    sweep = two_by_two(tmp_path)
    text = html(sweep, answer(sweep)).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|url\(|@import|<script|<link|<img|src=", text)


def test_trials_lead_to_their_reports_and_failures_to_their_logs(tmp_path: Path) -> None:
    sweep = two_by_two(tmp_path, seeds=(0,))
    first, second, *_ = (tmp_path / trial.name for trial in sweep.trials)
    (first / "report.html").write_text("")
    (second / "result.json").unlink()
    (second / "log.txt").write_text("")
    Ending(4, "the reward <failed>").write(second)
    text = html(sweep, answer(sweep))
    links = {link.text: link.get("href", "") for link in parse(text).iter("a")}
    assert links == {
        "run": "./beta%3D0.2%2Ctemperature%3D1-abc/",  # the last of the points: it has no report
        "beta=0.1, temperature=0.7": "./beta%3D0.1%2Ctemperature%3D0.7-abc/report.html",
        "log": "./beta%3D0.1%2Ctemperature%3D1-abc/log.txt",
    }
    points = [[link.get("href") for link in row.iter("a")] for row in next(parse(text).iter("table")).iter("tr")]
    assert points[1] == ["./beta%3D0.1%2Ctemperature%3D0.7-abc/report.html"]
    trials = [[*row.itertext()] for row in list(parse(text).iter("table"))[1].iter("tr")]
    assert trials[2] == ["beta=0.1, temperature=1", "failed", "the reward <failed>", "log"]
    assert trials[1] == ["beta=0.1, temperature=0.7", "finished"]


def test_a_name_cannot_break_the_page(tmp_path: Path) -> None:
    sweep = SweepRecord(
        tmp_path / HOSTILE.replace("/", ""), HOSTILE, tuple(Trial(n, {HOSTILE: HOSTILE + n}) for n in "abc")
    )
    for number, name in enumerate("ab"):
        write_trial(sweep.folder / name, [0.1 * number, 0.2, 0.3, 0.4], 1.0)
    (sweep.folder / "c").mkdir()
    Ending(1, HOSTILE).write(sweep.folder / "c")
    text = html(sweep, answer(sweep))
    assert not list(parse(text).iter("script"))
    assert "<script" not in text
    assert "\x1b" not in text


def test_without_a_finished_trial_the_page_says_so(tmp_path: Path) -> None:
    sweep = SweepRecord(tmp_path, "rlhf train -m", (Trial("a", {}),))
    text = html(sweep, answer(sweep))
    assert headings(text) == ["No recommendation", "The trials", "Again"]
    assert "not started" in text


def test_many_points_have_lines_of_the_best_alone(tmp_path: Path) -> None:
    names = "abcdefghi"
    for number, name in enumerate(names):  # the last ones are on the front: less KL, less reward
        rewards = [0.9 - number / 10 + one for one in (0.0, 0.01, 0.0, 0.01)]
        write_trial(tmp_path / name, rewards, 1.0 if number < 2 else 1 / number)
    sweep = SweepRecord(tmp_path, "", tuple(Trial(name, {"k": name}) for name in names))
    text = html(sweep, answer(sweep))
    held_out = pictures(text)["On the held-out prompts"]
    labels = [one.text for one in held_out.iter(f"{SVG}text") if (one.text or "")[1:2] == ":"]
    assert labels == [f"{number}: k={names[number - 1]}" for number in (1, 3, 4, 5, 6, 7, 8)]
    assert "7 of 9 points are shown: the Pareto front first." in text


def test_a_colour_means_one_thing_on_the_page(tmp_path: Path) -> None:
    sweep = two_by_two(tmp_path / "s")
    found = answer(sweep)
    meanings = {series.label: series.colour for series in drawn(found).series}
    assert meanings["recommended"] not in {colour for label, colour in meanings.items() if label != "recommended"}
    curves = pictures(html(sweep, found))["On the held-out prompts"]
    used = {one.get("class", "").split()[-1] for one in curves.iter() if one.tag.endswith(("path", "line"))}
    shown = {int(name[1:]) for name in used if re.fullmatch(r"c\d", name)}
    assert shown & set(meanings.values()) == {meanings["recommended"]}


def test_the_frontier_shows_every_point_by_its_number(tmp_path: Path) -> None:
    chart = drawn(answer(two_by_two(tmp_path, seeds=(0,))))
    assert [series.label for series in chart.series] == [
        "the optimum, from too few samples", "best of n", "recommended", "Pareto front", "other points",
    ]  # fmt: skip
    chosen, front, others = chart.series[2:]
    assert (others.names, front.names, chosen.names) == (["3"], ["1", "4"], ["2"])
    assert (chosen.xs, chosen.ys) == ([pytest.approx(0.8)], [pytest.approx(0.5)])
    assert chosen.low is not None
    assert chosen.low[0] == pytest.approx(0.5 - 0.1837, rel=1e-2)
    # four bars up and down with two caps each; the KL is the same at every prompt
    assert len(of_class(svg(chart), "error")) == 12
    assert [one.text for one in of_class(svg(chart), "name")] == ["2", "1", "4", "3"]


def test_the_interval_of_two_seeds_is_not_drawn(tmp_path: Path) -> None:
    sweep = two_by_two(tmp_path)
    assert not of_class(svg(drawn(answer(sweep))), "error")
    assert "two seeds" in html(sweep, answer(sweep))


def test_no_bar_reaches_below_a_kl_of_zero(tmp_path: Path) -> None:
    sweep = two_by_two(tmp_path, seeds=(0,))
    file = tmp_path / sweep.trials[3].name / "evaluations.jsonl"
    # KL 0, 0, 0, 0.8: 0.2 +- 0.64
    file.write_text(
        file.read_text().replace(
            '"kl": [[0.2, 0.2], [0.2, 0.2], [0.2, 0.2], [0.2, 0.2]]', '"kl": [[0], [0], [0], [0.8]]'
        )
    )
    found = answer(sweep)
    assert found.points[3].kl.low < -0.4
    front = next(series for series in drawn(found).series if series.label == "Pareto front")
    assert front.x_low is not None
    assert front.names is not None
    assert front.x_low[front.names.index("4")] == 0.0


def test_what_is_left_of_rounding_is_no_distance(tmp_path: Path) -> None:
    """KLs of 3e-11 nats: nothing moved, and the axis has no ticks of 1e-11."""
    write_trial(tmp_path / "a", [0.1, 0.2, 0.3, 0.4], 3e-11)
    write_trial(tmp_path / "b", [0.1, 0.2, 0.3, 0.4], 1e-11)
    chart = frontier(None, answer(SweepRecord(tmp_path, "", (Trial("a", {"k": "a"}), Trial("b", {"k": "b"})))).points)
    assert [list(series.xs) for series in chart.series] == [[0.0], [0.0]]
    names = [one.text for one in of_class(svg(chart), "middle")]
    assert (names[0], names[-2:]) == ("0", ["1", "KL, nats"])


def test_the_dashed_curve_goes_on_where_the_other_ends(tmp_path: Path) -> None:
    found = answer(two_by_two(tmp_path))
    assert found.oracle is not None
    curve = tuple(CurvePoint(kl, reward, kl < 1.5) for kl, reward in ((0.0, 0.2), (1.0, 0.5), (2.0, 0.6)))
    solid, dashed, *_ = drawn(replace(found, oracle=replace(found.oracle, curve=curve))).series
    assert (solid.label, dashed.label) == ("the optimum", "the optimum, from too few samples")
    assert (solid.xs, dashed.xs, dashed.style) == ([0.0, 1.0], [1.0, 2.0], "dashed")


def test_the_border_is_around_the_recommended_cell(tmp_path: Path) -> None:
    sweep = two_by_two(tmp_path)
    assert "The border is around" not in html(sweep, replace(answer(sweep), recommended=None))
    for number, place in ((1, 0), (3, 1), (2, 2), (4, 3)):  # row by row: temperature 0.7, then 1
        text = html(sweep, replace(answer(sweep), recommended=number))
        assert "The border is around" in text
        picture = pictures(text)["J = reward - 0.1·KL, by beta and temperature"]
        cells = [one for one in picture.iter(f"{SVG}rect") if "cell" in one.get("class", "")]
        (border,) = (one for one in picture.iter(f"{SVG}rect") if one.get("class") == "chosen")
        assert corners(border) == corners(cells[place])
