"""report.table."""

from __future__ import annotations

import pytest

from rlhf_cli.report.table import Link, Table


def test_a_link_leads_to_a_file_whatever_its_name() -> None:
    address = Link("name", "javascript:alert(1)/a b#c?d\"'.html").address
    assert address == "./javascript%3Aalert%281%29/a%20b%23c%3Fd%22%27.html"


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        Table(("a", "b"), (("1",),))
