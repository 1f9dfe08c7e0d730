"""display.printing."""

from __future__ import annotations

import io
import json
import math
import sys

import pytest

from rlhf_cli.display.printing import print_json


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_json_is_valid_wherever_it_is_printed_to(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    print_json({"text": "caf\u00e9 \u8336 \U0001f600", "loss": math.nan, "many": (1.0, -math.inf)})
    printed = raw.getvalue().decode(encoding)
    assert json.loads(printed, parse_constant=pytest.fail) == {
        "text": "caf\u00e9 \u8336 \U0001f600",
        "loss": None,
        "many": [1.0, None],
    }
    assert ("\u8336" in printed) is (encoding == "utf-8")
