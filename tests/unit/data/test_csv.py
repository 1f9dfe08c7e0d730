"""Tables with a header; every mistake is named by the line its record begins on."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rlhf_cli.data.csv import Csv
from rlhf_cli.data.reading import read_source
from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.types import PromptRow
from tests.unit.support import data_fields


def rows_of(tmp_path: Path, text: str) -> list[PromptRow]:
    (tmp_path / "p.csv").write_bytes(text.encode())
    return read_source(Csv.model_validate(data_fields(kind="csv", path=str(tmp_path / "p.csv")))).rows


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_row_has_the_headers_columns_and_its_first_line(tmp_path: Path, ending: str, mark: str) -> None:
    lines = (f"{mark}prompt,answer", '"one, two",1', '"of two', 'lines",2', "", 'say ""x"",', "last,3")
    found = rows_of(tmp_path, ending.join(lines))
    assert [(row.prompt, row.columns, row.where) for row in found] == [
        ("one, two", {"answer": "1"}, "p.csv:2"),
        (f"of two{ending}lines", {"answer": "2"}, "p.csv:3"),
        ('say ""x""', {"answer": ""}, "p.csv:6"),
        ("last", {"answer": "3"}, "p.csv:7"),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the prompt file is empty ({file}); fix: a header row, then a record a row"),
        ("prompt\n", "the prompt file is empty ({file}); fix: a header row, then a record a row"),
        (
            'prompt,a,b\n"x\ny",1,2\nz,1\n',
            "the row ends before b (p.csv:4); fix: give every column a value, if an empty one",
        ),
        (
            "prompt\nx,y\n",
            "2 values for 1 column; left over: 'y' (p.csv:2); fix: put \"quotes\" around a value with commas",
        ),
        (
            "prompt,a\nx,1\ny,2,three,4\n",
            "4 values for 2 columns; left over: 'three' (p.csv:3); fix: put \"quotes\" around a value with commas",
        ),
        (
            'prompt,a\nx,1\n"y,2\nz,3\n',
            'not CSV: unexpected end of data (p.csv:3); fix: put "quotes" around values, and double those inside',
        ),
        (
            "prompt;a\nx;1\n",
            "one column, 'prompt;a': columns are separated by ';' (p.csv:1); fix: separate them by commas",
        ),
        (
            "prompt\ta\nx\t1\n",
            "one column, 'prompt\\ta': columns are separated by '\\t' (p.csv:1); fix: separate them by commas",
        ),
        ('{"prompt": "x", "a": 1}\n', "JSON, not CSV (p.csv:1); fix: data=jsonl reads JSON"),
        ("prompt,a,a\nx,1,2\n", "two columns are called 'a' (p.csv:1); fix: rename one of them"),
        ("prompt,a,b,b,a\nx,1,2,3,4\n", "two columns are called 'a' (p.csv:1); fix: rename one of them"),
        ("prompt,a\n,1\n", "the prompt is empty (p.csv:2); fix: remove the line or write a prompt"),
    ],
)
def test_every_mistake_is_named_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        rows_of(tmp_path, text)
    assert caught.value.line() == problem.format(file=tmp_path / "p.csv")
    assert caught.value.exit_code == EXIT_DATA == 3


def test_a_long_field_is_no_mistake(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, f"prompt\n{'x' * 200_000}\n")
    assert len(row.prompt) == 200_000
    assert csv.field_size_limit() == 2**27
