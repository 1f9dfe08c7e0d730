"""report.page, by the pages that it renders from small values: what is escaped, left out and refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from jinja2 import UndefinedError

from rlhf_cli.charts.pictures import Chart, Series
from rlhf_cli.demo.scene import Scene
from rlhf_cli.report import page
from rlhf_cli.report.page import GENERATOR, render
from rlhf_cli.report.table import Link, Table
from tests.pages import parse, said

PICTURE = Chart("a <chart>", "x", "y", [Series("a", [0.0, 1.0], [0.0, 1.0])])
TEMPLATES = Path(page.__file__).parent / "templates"
RUN: dict[str, Any] = {
    "title": "a", "standing": [], "verdict": "v", "changes": None, "notes": [], "curves": [], "constants": "",
    "steps_a_point": 1, "times": [], "timings_a_point": 1, "texts": [], "answers": [], "votes": [], "texts_step": None,
    "samples": [], "repeat": None, "is_changed": True, "go_on": "", "is_finished": False, "config": {}, "machine": {},
}  # fmt: skip


def lecture(*scenes: Scene) -> ElementTree.Element:
    return parse(render("lecture.html.j2", title="a <title>", scenes=scenes))


def run_page(**values: Any) -> str:
    return render("run.html.j2", **{**RUN, **values})


def test_a_scene_is_shown_in_order() -> None:
    scene = Scene("<h>", ("one & two", "<b>three</b>"), "∇J = E[…]", "rloo.py", (PICTURE,), ("four < five",))
    (section,) = lecture(scene).iter("section")
    assert [element.tag.rpartition("}")[2] for element in section] == ["h2", "p", "p", "p", "svg", "p", "p"]
    assert [section[i].text for i in (0, 1, 2)] == ["<h>", "one & two", "<b>three</b>"]
    assert section[3].findtext("code") == "∇J = E[…]"
    assert section[5].text == "four < five"
    assert section[6].findtext("code") == "rloo.py"


def test_what_a_scene_does_not_have_is_left_out() -> None:
    (section,) = lecture(Scene("only a heading", ())).iter("section")
    assert [element.tag for element in section] == ["h2"]


def test_the_page_has_a_title_and_fits_a_phone() -> None:
    root = lecture()
    assert root.findtext("head/title") == root.findtext("body/h1") == "a <title>"
    text = run_page()
    assert 'name="viewport" content="width=device-width' in text
    assert GENERATOR in text[:1024]


def test_the_page_loads_and_runs_nothing() -> None:
    text = run_page(curves=[PICTURE]).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|url\(|@import|<script|<link|<img|src=", text)


@pytest.mark.parametrize(
    "values",
    [
        {"title": "<&\x1b"},
        {"standing": [("<&\x1b", "b")]},
        {"standing": [("a", "<&\x1b")]},
        {"verdict": "<&\x1b"},
        {"changes": Table(["<&\x1b"], [])},
        {"changes": Table([""], [["<&\x1b"]])},
        {"changes": Table(["", ""], [["a", "<&\x1b"]])},
        {"changes": Table([""], [[Link("<&\x1b", "a")]])},
        {"texts": [("<&\x1b", [], [])]},
        {"texts": [("a", [("<&\x1b", False)], [])]},
        {"texts": [("a", [], [("<&\x1b", True)])]},
        {"samples": [("a", "<&\x1b", "")]},
        {"samples": [("a", "b", "<&\x1b")]},
        {"repeat": "<&\x1b"},
        {"config": {"<&\x1b": 1}},
        {"config": {"a": "<&\x1b"}},
    ],
)
def test_every_text_is_escaped(values: dict[str, Any]) -> None:
    text = run_page(**values)
    assert "&lt;&amp;·" in text
    assert "<&" not in text
    parse(text)


def test_marks_and_empty_texts() -> None:
    left, right = [("a ", False), ("b", True)], [("a", False)]
    text = run_page(texts=[("p", left, right), ("q", [], right)])
    assert '<p dir="auto">a <del>b</del></p>' in text
    assert "<em>(empty)</em>" in text
    assert '<p dir="auto">  two\n\nlines </p>' in run_page(samples=[("p", "n", "  two\n\nlines ")])


def test_a_table() -> None:
    rows = [["1", "x", "2"], [Link("<name>", "a b.html"), "&y", "3"]]
    root = parse(run_page(changes=Table(["", "words", "number"], rows, words=range(1, 2), strong=1)))
    head, first, second = root.iter("tr")
    assert [cell.text for cell in head] == [None, "words", "number"]
    assert [(cell.tag, cell.get("class"), said(cell)) for cell in first] == [
        ("th", None, "1"), ("td", "words", "x"), ("td", None, "2"),
    ]  # fmt: skip
    assert [said(cell) for cell in second] == ["<name>", "&y", "3"]
    assert (first.get("class"), second.get("class")) == (None, "strong")
    assert [link.get("href") for link in second.iter("a")] == ["./a%20b.html"]


def test_a_table_of_few_columns_fits_a_phone() -> None:
    assert '<table class="few">' in run_page(changes=Table([""] * 4, []))
    assert "<table>" in run_page(changes=Table([""] * 5, []))


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'scenes' is undefined"):
        render("lecture.html.j2", title="t")


def test_no_template_goes_around_the_escaping() -> None:
    """Only our own words are marked as safe; a picture's texts are escaped where it is drawn."""
    for file in TEMPLATES.glob("*.html.j2"):
        uses = re.findall(r"(\S+) \| safe|autoescape", file.read_text(encoding="utf-8"))
        assert uses in ([], ['"<em>(empty)</em>"']), file.name
