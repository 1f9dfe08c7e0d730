"""report.table."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from rlhf_cli.report.table import Link, Table, html


def rows(table: Table) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(html(table)).iter("tr"))


def test_cells_stand_where_they_belong() -> None:
    head, first, second = rows(
        Table(
            ("a", "b"), (("1", "<2>"), ("&3", "4")), numbers=frozenset({0}), long=frozenset({1}), strong=frozenset({1})
        )
    )
    assert [cell.text for cell in head] == ["a", "b"]
    assert [cell.text for cell in first] == ["1", "<2>"]
    assert [cell.text for cell in second] == ["&3", "4"]
    assert [cell.get("class") for cell in first] == ["number", "long"]
    assert (first.get("class"), second.get("class")) == (None, "strong")


def test_a_link_leads_to_a_file_whatever_its_name() -> None:
    _, row = rows(Table(("a",), ((Link("<name>", "javascript:alert(1)/a b#c?d\"'.html"),),)))
    (link,) = row.iter("a")
    assert link.text == "<name>"
    assert link.get("href") == "./javascript%3Aalert%281%29/a%20b%23c%3Fd%22%27.html"


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        html(Table(("a", "b"), (("1",),)))
