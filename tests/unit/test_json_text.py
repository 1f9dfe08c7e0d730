"""json_text: a text that is no JSON, or JSON that Python cannot read, is refused in plain words."""

from __future__ import annotations

import json

import pytest

from rlhf_cli.json_text import from_json


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        ("", "not JSON: Expecting value at column 1"),
        ('{\n  "a": 1,\n  b\n}', "not JSON: Expecting property name enclosed in double quotes at line 3, column 3"),
        ("[1]\n[", "not JSON: Extra data at line 2, column 1"),
        (b'"\xff"', "not JSON: its bytes are no UTF-8"),
        ("[" * 200_000, "not readable as JSON: it is nested too deeply"),
        ('{"n": -' + "7" * 5000 + "}", "not readable as JSON: a number of 5,000 digits"),
        (b"8" * 4301, "not readable as JSON: a number of 4,301 digits"),
    ],
    ids=["cut", "empty", "third line", "second line", "bytes", "nested", "digits", "one digit more than Python reads"],
)
def test_a_text_that_cannot_be_read_is_refused_in_plain_words(text: str | bytes, said: str) -> None:
    with pytest.raises(ValueError, match=r"^not ") as caught:
        from_json(text)
    assert str(caught.value) == said


@pytest.mark.parametrize("text", ['{"a": [1, 2.5, null, true, "\\u00e4"]}', " [1e3, -0]\n", "9" * 4300])
def test_all_else_is_what_json_reads(text: str) -> None:
    assert from_json(text) == from_json(text.encode()) == json.loads(text)


def test_the_words_of_a_decoder_of_the_callers_are_kept() -> None:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    with pytest.raises(ValueError, match=r"^not readable as JSON: NaN is no JSON$"):
        from_json("[NaN]", json.JSONDecoder(parse_constant=refuse))
