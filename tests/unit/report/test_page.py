"""report.page and report.words."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from rlhf_cli.charts.pictures import Chart, Series
from rlhf_cli.charts.svg import svg
from rlhf_cli.charts.words import safe, shorten, width, wrap
from rlhf_cli.report.page import Section, page

PICTURE = svg(Chart("a chart", "x", "y", [Series("a", [0.0, 1.0], [0.0, 1.0])]))


def body(*sections: Section) -> ElementTree.Element:
    return ElementTree.fromstring(page("a <title>", sections).removeprefix("<!doctype html>"))


def test_a_section_has_what_it_was_given_in_order() -> None:
    given = Section("<h>", ["one & two", "<b>three</b>"], "∇J = E[…]", "rloo.py", PICTURE, ["four < five"])
    (section,) = body(given).iter("section")
    assert [element.tag.rpartition("}")[2] for element in section] == ["h2", "p", "p", "p", "svg", "p", "p"]
    assert [section[i].text for i in (0, 1, 2)] == ["<h>", "one & two", "<b>three</b>"]
    assert section[3].findtext("code") == "∇J = E[…]"
    assert section[5].text == "four < five"
    assert section[6].findtext("code") == "rloo.py"


def test_what_is_empty_is_left_out() -> None:
    (section,) = body(Section("only a heading")).iter("section")
    assert [element.tag for element in section] == ["h2"]


def test_the_page_has_a_title_and_fits_a_phone() -> None:
    root = body()
    assert root.findtext("head/title") == root.findtext("body/h1") == "a <title>"
    assert 'name="viewport" content="width=device-width' in page("", [])


def test_the_page_loads_and_runs_nothing() -> None:
    text = page("t", [Section("h", ["p"], svg=PICTURE)]).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|url\(|@import|<script|<link|<img|src=", text)


def test_words_are_wrapped_at_spaces_and_shortened_where_one_is_too_long() -> None:
    room = width("mmmm mmmm")
    assert wrap("mmmm mmmm mm mmmmmmmmmmmm", room) == ["mmmm mmmm", "mm", "mmmmmmmm…"]
    assert wrap("", room) == []


def test_shortening_keeps_what_fits() -> None:
    assert shorten("abc", width("abc")) == "abc"
    assert shorten("abcd", width("abc")) == "ab…"
    assert shorten("ab cd", width("abc…")) == "ab…"
    assert shorten("abc", 0.0) == "…"


def test_a_wide_character_takes_the_room_of_its_own() -> None:
    assert width("\N{HIRAGANA LETTER A}") == 16
    assert width("e\N{COMBINING ACUTE ACCENT}") == width("e")


@pytest.mark.parametrize(("text", "made"), [("<&\"'>", "&lt;&amp;&quot;&#x27;&gt;"), ("a\x1b\ud800", "a··")])
def test_what_is_made_safe(text: str, made: str) -> None:
    assert safe(text) == made
