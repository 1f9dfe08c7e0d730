"""Which rows are used, and how many are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.data.reading import UsedRows, read_source
from rlhf_cli.errors import UserError
from tests.unit.support import source_of

ROWS = [{"prompt": text, "level": level} for text, level in (("a", 1), ("b", "1"), ("a", 2), ("c", True), ("d", None))]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path / "p.jsonl"


def texts(found: UsedRows) -> str:
    return "".join(row.shown for row in found.rows)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, "ab"),
        ("1", "b"),
        (2, "a"),
        ([1, 2], "aba"),
        (True, "c"),
        (None, "d"),
        ([None, True], "cd"),
    ],
)
def test_rows_with_a_wanted_value_are_used(file: Path, value: Any, expected: str) -> None:
    """A number is also its text, which is all that a csv file holds; to Python 1 is True, to JSON it is not."""
    found = read_source(source_of(file, where={"level": value}))
    assert texts(found) == expected
    assert found.left_out.total() == len(ROWS) - len(expected)
    assert set(found.left_out) == {"by data.where"}


@pytest.mark.parametrize("value", [7, [], "yes"])
def test_a_filter_that_no_row_passes_is_refused_with_the_values_there_are(file: Path, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        read_source(source_of(file, where={"level": value}, eval_path="e.jsonl"))
    assert caught.value.line() == (
        'data.where leaves none of 5 rows; they have level: 1 (1), level: "1" (1), level: 2 (1) '
        f"({file}); fix: write the value as the column has it; a text that looks like a number needs quotes"
    )
    assert caught.value.exit_code == 3


def test_of_many_values_that_no_filter_takes_a_thousand_are_counted(tmp_path: Path) -> None:
    """The last value comes twice, and the second time is behind the thousandth value."""
    values = [f"ö{n}" for n in (*range(1000), 999)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": "a", "level": one}) + "\n" for one in values))
    with pytest.raises(UserError) as caught:
        read_source(source_of(tmp_path / "p.jsonl", where={"level": 7}))
    shown = ", ".join(f'level: "ö{n}" (1)' for n in range(3))
    assert caught.value.what == f"data.where leaves none of 1001 rows; they have {shown}"


@pytest.mark.parametrize(
    ("value", "limit", "unmet"),
    [
        ([1, 9], None, ["level: 9"]),
        ([9, "hö", True], None, ["level: 9", 'level: "hö"']),
        ([1, 2], None, []),
        ([1, 9], 1, []),  # more rows follow, which may have it
        (1, None, []),
    ],
)
def test_one_of_several_values_that_no_row_has_is_known(
    file: Path, value: Any, limit: int | None, unmet: list[str]
) -> None:
    assert read_source(source_of(file, where={"level": value}), limit=limit).unmet == unmet


@pytest.mark.parametrize(("value", "expected"), [(True, "abc"), (False, "d"), ("True", "b")])
def test_true_is_also_what_spreadsheets_write(tmp_path: Path, value: Any, expected: str) -> None:
    rows = [{"prompt": p, "right": r} for p, r in (("a", "true"), ("b", "True"), ("c", "TRUE"), ("d", "False"))]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert texts(read_source(source_of(tmp_path / "p.jsonl", where={"right": value}))) == expected


def test_all_of_several_filters_must_hold(file: Path) -> None:
    assert texts(read_source(source_of(file, where={"level": [1, 2], "prompt": "a"}))) == "aa"


def test_a_filter_by_a_missing_column_is_refused(file: Path) -> None:
    with pytest.raises(UserError, match=r"^no column 'lvel'; columns: prompt, level \(p.jsonl:1\)"):
        read_source(source_of(file, where={"lvel": 1}))


KEY = "ghp_" + "aB3" * 12
CALL = [{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"key": KEY}}}]}]
HOLDS_KEY = {
    "a text": {"prompt": f"curl -H {KEY}"},
    "a turn": {"prompt": [{"role": "system", "content": f"Use {KEY}."}, {"role": "user", "content": "Go."}]},
    "another key of a turn": {"prompt": [{"role": "user", "content": "Go."}, *CALL]},
    "a tool": {"prompt": [{"role": "user", "content": "Go."}], "tools": [{"name": "f", "description": KEY}]},
}


@pytest.mark.parametrize("row", HOLDS_KEY.values(), ids=HOLDS_KEY.keys())
def test_a_prompt_with_a_key_is_refused_or_left_out_or_kept(row: dict[str, Any], tmp_path: Path) -> None:
    """A column that no prompt shows, `note`, may hold what it likes."""
    rows = [{"prompt": "password = None", "note": KEY}, row]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError) as caught:
        read_source(source_of(tmp_path / "p.jsonl", secrets="error"))
    assert caught.value.line() == (
        "the prompt holds what looks like a GitHub token, and samples and reports show prompts (p.jsonl:2); "
        "fix: remove it, or leave such rows out: data.secrets=drop (or =keep them)"
    )
    assert caught.value.exit_code == 3
    dropped = read_source(source_of(tmp_path / "p.jsonl", secrets="drop"))
    assert texts(dropped) == "password = None"
    assert dropped.left_out == {"with a secret": 1}
    assert len(read_source(source_of(tmp_path / "p.jsonl", secrets="keep")).rows) == 2


@pytest.mark.parametrize(
    ("row", "searched", "named"),
    [
        ({"answer": f"use {KEY}"}, ("answer",), "answer"),
        ({"gold": {"text": KEY}}, ("gold.text",), "gold"),
        ({"messages": [{"role": "assistant", "content": KEY}]}, ("messages",), "messages"),
        ({"number": 7, "note": KEY}, None, "note"),
    ],
)
def test_so_are_columns_that_the_run_reads(
    row: dict[str, Any], searched: tuple[str, ...] | None, named: str, tmp_path: Path
) -> None:
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": p} | r) + "\n" for p, r in (("a", {}), ("b", row))))
    with pytest.raises(UserError) as caught:
        read_source(source_of(tmp_path / "p.jsonl"), searched=searched)
    assert caught.value.line().startswith(
        f"the column {named} holds what looks like a GitHub token, and the run reads it (p.jsonl:2); fix: remove it"
    )
    assert texts(read_source(source_of(tmp_path / "p.jsonl", secrets="drop"), searched=searched)) == "a"
    assert texts(read_source(source_of(tmp_path / "p.jsonl"), searched=("other",))) == "ab"


def test_repeated_prompts_are_left_out(file: Path) -> None:
    found = read_source(source_of(file, dedup=True))
    assert [row.where for row in found.rows] == [f"p.jsonl:{line}" for line in (1, 2, 4, 5)]
    assert found.left_out == {"by data.dedup": 1}


@pytest.mark.parametrize(("limit", "more"), [(1, True), (4, True), (5, False), (6, False), (None, False)])
def test_rows_beyond_the_limit_are_not_read(file: Path, limit: int | None, more: bool) -> None:
    found = read_source(source_of(file), limit=limit)
    assert (len(found.rows), found.more) == (min(limit or 5, 5), more)


def test_rows_left_out_do_not_count_towards_the_limit(file: Path) -> None:
    found = read_source(source_of(file, where={"level": [2, True]}), limit=2)
    assert texts(found) == "ac"


def test_a_mistake_beyond_the_limit_is_ignored(file: Path) -> None:
    with file.open("a") as rows:
        rows.write('{"prompt": 1}\n{"prompt": 2}\n')
    assert len(read_source(source_of(file), limit=5).rows) == 5
    with pytest.raises(UserError, match=r"prompt is a number \(p.jsonl:6\)"):
        read_source(source_of(file), limit=6)
