"""Properties of what a run writes."""

from __future__ import annotations

import json
import math
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.display.dashboard import sparkline
from rlhf_cli.display.words import flat
from rlhf_cli.runs.checkpoint import find_newest, list_checkpoints, prune, publish, step_of, why_invalid
from rlhf_cli.runs.json_files import content_of, finite
from rlhf_cli.runs.logbook import JsonlLog, cut_back

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
rows = st.dictionaries(
    texts, st.floats() | st.integers() | texts | st.lists(st.floats(), max_size=3) | st.none(), max_size=4
)


def as_json_holds_it(value: Any) -> Any:
    """The value with null for what is not finite, worked out another way."""
    return json.loads(json.dumps(value), parse_constant=lambda name: None)


@given(st.lists(rows, max_size=6))
def test_every_row_is_one_line_and_comes_back(tmp_path: Path, written: list[dict[str, Any]]) -> None:
    file = tmp_path / "log.jsonl"
    file.unlink(missing_ok=True)
    log = JsonlLog(file)
    for row in written:
        log.write(row)
    log.close()
    lines = content_of(file).split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line) for line in lines] == [as_json_holds_it(row) for row in written]


@given(rows)
def test_finite_does_it_once_and_for_all(row: dict[str, Any]) -> None:
    assert finite(finite(row)) == finite(row) == as_json_holds_it(row)


@given(st.lists(rows, max_size=4), st.lists(rows, max_size=4), st.binary(max_size=20))
def test_cutting_back_brings_back_the_bytes_of_the_mark(
    tmp_path: Path, kept: list[dict[str, Any]], lost: list[dict[str, Any]], torn: bytes
) -> None:
    file = tmp_path / "log.jsonl"
    file.unlink(missing_ok=True)
    log = JsonlLog(file)
    for row in kept:
        log.write(row)
    mark, content = log.mark(), content_of(file)
    for row in lost:
        log.write(row)
    log.close()
    with file.open("ab") as handle:
        handle.write(torn)
    assert cut_back(file, mark) is None
    assert file.read_bytes() == content
    again = JsonlLog(file)
    assert again.mark() == mark
    again.close()


@given(st.binary(min_size=1, max_size=200), st.data())
def test_any_flipped_bit_is_noticed(tmp_path: Path, content: bytes, data: st.DataObject) -> None:
    root = tmp_path / "checkpoints"
    shutil.rmtree(root, ignore_errors=True)
    folder = publish(root, 3, {"weights": content})
    assert why_invalid(folder) is None
    broken = bytearray(content)
    broken[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "weights").write_bytes(broken)
    assert why_invalid(folder) == "weights: sha256 mismatch"


@given(st.sets(st.integers(0, 20), min_size=1, max_size=6), st.data(), st.integers(1, 4))
def test_pruning_keeps_the_newest_valid_ones_and_every_invalid_one(
    tmp_path: Path, steps: set[int], data: st.DataObject, keep: int
) -> None:
    root = tmp_path / "checkpoints"
    shutil.rmtree(root, ignore_errors=True)
    bad = data.draw(st.sets(st.sampled_from(sorted(steps))))
    for step in steps:
        folder = publish(root, step, {"x": b"x"})
        if step in bad:
            (folder / "x").write_text("y")
    newest = find_newest(root).folder
    pinned = data.draw(st.sets(st.sampled_from(sorted(steps)), max_size=1))
    prune(root, keep, pinned)
    expected = set(sorted(steps - bad, reverse=True)[:keep]) | bad | pinned
    assert {step_of(folder) for folder in list_checkpoints(root)} == expected
    assert find_newest(root).folder == newest


@given(st.one_of(texts, st.text(st.characters(max_codepoint=0xFF), max_size=40)).filter(lambda text: "·" not in text))
def test_what_is_shown_of_a_text_is_one_printable_line_with_nothing_readable_lost(text: str) -> None:
    shown = flat(text)
    assert shown.isprintable()
    assert shown.replace("·", "").replace(" ", "") == "".join(c for c in text if c.isprintable() and not c.isspace())


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=200), st.integers(1, 60))
def test_a_sparkline_fits_and_begins_and_ends_in_order(values: list[float], width: int) -> None:
    bars = sparkline(values, width)
    assert len(bars) == min(len(values), width)
    if len(values) <= width:
        low, high = min(values), max(values)
        is_rounding = high - low <= max(1e-6 * max(abs(low), abs(high)), 1e-9)
        assert bars[values.index(low)] == "▁"
        assert bars[values.index(high)] == ("▁" if is_rounding else "█")
        by_value = sorted(zip(values, bars, strict=True))
        assert all(low <= high for (_, low), (_, high) in pairwise(by_value))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_comes_back_bit_for_bit(tmp_path: Path, value: float) -> None:
    file = tmp_path / "log.jsonl"
    file.unlink(missing_ok=True)
    log = JsonlLog(file)
    log.write({"value": value})
    log.close()
    found = json.loads(file.read_bytes())["value"]
    assert (found, math.copysign(1, found)) == (value, math.copysign(1, value))
