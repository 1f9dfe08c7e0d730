"""How a run ended, as a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rlhf_cli.evaluation.evaluation import compare
from rlhf_cli.evaluation.optimum import Optimum
from rlhf_cli.health.stopping import Stopping
from rlhf_cli.runs.result import Result, SideBySide, read_final_steps
from tests.unit.evaluation.samples import AFTER, BEFORE

TEXTS = (SideBySide("p", "r\u2028", "ö\n"), SideBySide("q", "", "x"))
FULL = Result(4, 0.1 + 0.2, 2, 2, compare(BEFORE, AFTER), Optimum(62.5, 55.0, 71.0, "", 1.5, None), TEXTS)


@pytest.mark.parametrize(
    "result",
    [
        FULL,
        dataclasses.replace(FULL, comparison=None, optimum=None, texts=()),
        dataclasses.replace(FULL, stopped=Stopping("stop.kl", "the KL is 9 nats")),
    ],
    ids=["full", "never evaluated", "stopped"],
)
def test_it_is_read_back_as_it_was_written(result: Result, tmp_path: Path) -> None:
    result.write(tmp_path)
    assert Result.read(tmp_path) == result
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]
    text = (tmp_path / "result.json").read_text()
    assert text.startswith('{\n  "step": 4,\n  "beta": 0.30000000000000004,\n')
    assert ('"stopped"' in text) == (result.stopped is not None)
    assert read_final_steps(tmp_path) == (4, 4)


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"comparison": 3, "optimum": 4, "texts": 5}'])
def test_what_cannot_be_read_is_no_result(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    assert Result.read(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "steps"),
    [
        ('{"task": "sft", "step": 6, "exported": 4}', (6, 4)),
        ('{"task": "sft", "step": 6}', None),
        ('{"task": "sft", "exported": 4}', None),
        ('{"task": "sft", "step": "6", "exported": "4"}', None),
        ('{"step": 6}', None),
        ("", None),
    ],
)
def test_the_last_step_and_that_of_the_exported_adapter(
    content: str, steps: tuple[int, int] | None, tmp_path: Path
) -> None:
    (tmp_path / "result.json").write_text(content)
    assert read_final_steps(tmp_path) == steps
