"""How a run ended, as a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rlhf_cli.functional.optimum import Optimum
from rlhf_cli.pipeline.evaluation import compare
from rlhf_cli.pipeline.result import Result, SideBySide
from tests.unit.pipeline.test_evaluation import AFTER, BEFORE

TEXTS = (SideBySide("p", "r\u2028", "ö\n"), SideBySide("q", "", "x"))
FULL = Result(4, 0.1 + 0.2, 2, 2, compare(BEFORE, AFTER), Optimum(62.5, 55.0, 71.0, "", 1.5, None), TEXTS)


@pytest.mark.parametrize(
    "result",
    [FULL, dataclasses.replace(FULL, comparison=None, optimum=None, texts=())],
    ids=["full", "never evaluated"],
)
def test_it_is_read_back_as_it_was_written(result: Result, tmp_path: Path) -> None:
    result.write(tmp_path)
    assert Result.read(tmp_path) == result
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]
