"""report.elements: what every text in them is made, and how settings are listed."""

from __future__ import annotations

from rlhf_cli.report.elements import LONGEST, command, cut, facts, folded, listing, sides, table


def test_every_text_is_made_safe() -> None:
    safe = "&lt;&amp;·"
    for made in (
        sides("<&\x1b", [("name", "<b>marked</b>")]),
        sides("prompt", [("<&\x1b", "")]),
        table(["<&\x1b"], []),
        table([""], [["<&\x1b"]]),
        table([""], [["a", "<&\x1b"]]),
        facts([("<&\x1b", "b")]),
        facts([("a", "<&\x1b")]),
        command("<&\x1b"),
        listing({"<&\x1b": 1}),
        listing({"a": "<&\x1b"}),
        listing({"a": {"b": ["<&"]}}).replace("&lt;&amp;", safe),
        folded("<&\x1b", ""),
    ):
        assert safe in made
        assert "<&" not in made
    assert "<b>marked</b>" in sides("", [("", "<b>marked</b>")])


def test_settings_are_indented() -> None:
    values = {"a": {"b": {"c": None, "d": [1, "x"]}, "e": {}}, "f": "text", "g": True}
    assert listing(values) == ("<pre>a:\n  b:\n    c: null\n    d: [1, &quot;x&quot;]\n  e: {}\nf: text\ng: true</pre>")


def test_a_long_text_is_cut() -> None:
    assert cut("x" * LONGEST) == "x" * LONGEST
    assert cut("x" * (LONGEST + 3)) == "x" * LONGEST + " … (3 more characters)"


def test_the_row_that_stands_out_and_tables_that_fit_a_phone() -> None:
    assert table(["", "x"], [["a", "1"], ["b", "2"]], strong="b").count('<tr class="strong">') == 1
    assert '<table class="few">' in table([""] * 4, [])
    assert "<table>" in table([""] * 5, [])
    assert '<table class="words">' in table([""] * 5, [], words=True)
