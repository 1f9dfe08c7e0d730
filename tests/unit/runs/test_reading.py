"""What can be read of a run's folder: whole, killed in the middle, or foreign."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.evaluation.evaluation import Evaluation, compare
from rlhf_cli.runs.binding import CHANGED, write_record
from rlhf_cli.runs.json_files import read_object, read_rows
from rlhf_cli.runs.reading import (
    compare_if_paired,
    read_evaluation,
    read_evaluations,
    read_first_and_last,
    read_metrics,
    read_run,
    why_not_compared,
)
from rlhf_cli.runs.result import Result
from tests.unit.evaluation.samples import AFTER, BEFORE
from tests.unit.runs.samples import CONFIG


def put(file: Path, rows: list[Any], end: str = "") -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + end, encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that was killed in step 6: the last line of every file is half there, and there is no result."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "run.json").write_text('{"seed": 3}')
    put(tmp_path / "metrics.jsonl", [{"step": 0}, {"step": 5, "objective": 1.0}], '{"step": 6, "obj')
    put(tmp_path / "timings.jsonl", [{"step": 5}, [1], 2, {"step": "5"}, {"step": True}, {}], '{"step"')
    samples = [{"step": step, "completion": str(n)} for step in (1, 2, 5) for n in range(2)]
    put(tmp_path / "samples.jsonl", samples, '{"step": 6, "prom')
    later = replace(AFTER, step=8)
    put(tmp_path / "evaluations.jsonl", [BEFORE.row(), AFTER.row(), later.row()], '{"step": 12, "be')
    return tmp_path


def test_a_killed_run(run: Path) -> None:
    found = read_run(run)
    assert (found.status.steps, found.config, found.record) == (8, CONFIG, {"seed": 3})
    assert found.result is None
    assert [row["step"] for row in found.metrics] == [0, 5]
    assert [row["step"] for row in found.timings] == [5]
    assert [(row["step"], row["completion"]) for row in found.early] == [(1, "0"), (1, "1")]
    assert [(row["step"], row["completion"]) for row in found.late] == [(5, "0"), (5, "1")]
    assert (found.first, found.last) == (BEFORE, replace(AFTER, step=8))
    assert found.comparison == compare(BEFORE, replace(AFTER, step=8))


def test_an_empty_folder(tmp_path: Path) -> None:
    found = read_run(tmp_path)
    assert found.status.state == "broken"
    assert (found.config, found.record, found.metrics, found.timings, found.early, found.late) == (
        {},
        {},
        (),
        (),
        (),
        (),
    )
    assert (found.result, found.first, found.last, found.comparison) == (None, None, None, None)


def test_a_result_is_read(run: Path) -> None:
    result = Result(4, 0.5, 2, 2, compare(BEFORE, AFTER), None, ())
    result.write(run)
    assert read_run(run).result == result


def test_samples_of_a_single_step_are_early(run: Path) -> None:
    put(run / "samples.jsonl", [{"step": 1, "completion": "only"}])
    found = read_run(run)
    assert (len(found.early), found.late) == (1, ())


@pytest.mark.parametrize("key", ["reward", "kl", "optimum", "texts", "prompts"])
def test_an_evaluation_of_which_a_part_is_missing_or_null_is_passed_over(key: str, run: Path) -> None:
    row = AFTER.row()
    without = {name: value for name, value in row.items() if name != key}
    put(run / "evaluations.jsonl", [BEFORE.row(), AFTER.row(), without])
    assert read_run(run).last == AFTER
    null = {**row, "reward": [[None]]}
    put(run / "evaluations.jsonl", [BEFORE.row(), AFTER.row(), null])
    assert read_run(run).last == AFTER


def test_the_reference_is_the_evaluation_of_step_0_alone(run: Path) -> None:
    put(run / "evaluations.jsonl", [AFTER.row()])
    assert (read_run(run).first, read_run(run).last) == (None, AFTER)


@pytest.mark.parametrize(
    ("changes", "first", "last", "kept"),
    [
        ({}, 0, 8, [0, 4, 8]),
        ({"reward": 0}, None, 8, [4, 8]),
        ({"reward": 3}, None, 8, [4, 8]),
        ({"reward": 3, "data": 4}, None, 8, [8]),
        ({"reward": 8}, None, None, []),
    ],
)
def test_evaluations_up_to_a_change_are_compared_with_no_later_one(
    changes: dict[str, int], first: int | None, last: int | None, kept: list[int], run: Path
) -> None:
    write_record(run, {CHANGED: changes})
    found = read_first_and_last(run)
    assert [one and one.step for one in found] == [first, last]
    assert [one.step for one in read_evaluations(run)] == kept


def test_why_there_is_nothing_to_compare() -> None:
    said = "data and reward changed after step 4, and the evaluations with it"
    assert why_not_compared({CHANGED: {"data": 2, "reward": 4}}) == said
    for record in ({}, {CHANGED: {}}, {CHANGED: [4]}):
        assert why_not_compared(record) == "evaluations.jsonl lacks the first or the last evaluation"


def test_the_evaluation_of_one_step(run: Path) -> None:
    assert [read_evaluation(run, step) for step in (0, 4)] == [BEFORE, AFTER]
    assert [read_evaluation(run, step) for step in (1, 12)] == [None, None]


def test_only_the_first_line_may_be_the_reference(run: Path) -> None:
    put(run / "evaluations.jsonl", [AFTER.row(), BEFORE.row()])
    assert read_first_and_last(run) == (None, AFTER)
    put(run / "evaluations.jsonl", [BEFORE.row(), replace(AFTER, step=1).row()])
    assert read_first_and_last(run) == (BEFORE, replace(AFTER, step=1))


def test_pairs(run: Path) -> None:
    other: Evaluation = replace(AFTER, prompts=[7, 8])
    assert compare_if_paired(BEFORE, AFTER) == compare(BEFORE, AFTER)
    assert compare_if_paired(BEFORE, other) is None
    assert compare_if_paired(None, AFTER) is None
    assert compare_if_paired(BEFORE, None) is None


def test_folders_in_the_place_of_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("config.json", "run.json", "metrics.jsonl", "samples.jsonl", "evaluations.jsonl", "result.json"):
        (tmp_path / name).mkdir()
    assert read_run(tmp_path).metrics == ()


def of_twice_the_prompt(row: dict[str, Any]) -> None:
    row["prompts"] = [0, 0]


def of_a_prompt_less(row: dict[str, Any]) -> None:
    row["texts"] = row["texts"][:1]


def of_a_sample_less(row: dict[str, Any]) -> None:
    row["kl"][1] = row["kl"][1][:1]


def of_no_prompts(row: dict[str, Any]) -> None:
    row |= {name: [] for name in ("prompts", "reward", "kl", "length", "truncated", "texts", "logprob", "ref_logprob")}


def of_a_giant(row: dict[str, Any]) -> None:
    row["reward"][0][0] = 1e308


def of_no_number(row: dict[str, Any]) -> None:
    row["kl"][0][0] = math.nan


@pytest.mark.parametrize(
    "damage", [of_twice_the_prompt, of_a_prompt_less, of_a_sample_less, of_no_prompts, of_a_giant, of_no_number]
)
def test_an_evaluation_that_does_not_fit_together_is_passed_over(
    damage: Callable[[dict[str, Any]], None], run: Path
) -> None:
    row = json.loads(json.dumps(AFTER.row()))
    damage(row)
    (run / "evaluations.jsonl").write_text(f"{json.dumps(BEFORE.row())}\n{json.dumps(row)}\n")
    assert read_first_and_last(run) == (BEFORE, None)


@given(st.integers(0, 10**9), st.integers(0, 7))
def test_a_flipped_bit_never_breaks_the_comparison(tmp_path: Path, place: int, bit: int) -> None:
    content = bytearray("".join(json.dumps(one.row()) + "\n" for one in (BEFORE, AFTER)).encode())
    content[place % len(content)] ^= 1 << bit
    (tmp_path / "evaluations.jsonl").write_bytes(content)
    found = compare_if_paired(*read_first_and_last(tmp_path))
    assert found is None or all(math.isfinite(change.mean) for change in found.change.values())


def test_the_metrics_up_to_a_step_are_numbers(tmp_path: Path) -> None:
    rows = [{"step": 0, "eval/objective": 0.5}, {"step": 1, "objective": None}, "x", {"step": 2}, {"step": 3}]
    put(tmp_path / "metrics.jsonl", rows, end='{"step": 1, "obj')
    start, first, second = read_metrics(tmp_path, 2)
    assert (start, second) == ({"step": 0, "eval/objective": 0.5}, {"step": 2})
    assert math.isnan(first["objective"])
    assert read_metrics(tmp_path / "nowhere", 2) == []


def test_a_number_of_hundreds_of_digits_is_none_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"objective": {"betas": [0.9, 10**400]}}))
    assert read_object(file) == {}
    file.write_text(json.dumps({"seed": 2**64 - 1, "steps": -(2**63)}))
    assert read_object(file) == {"seed": 2**64 - 1, "steps": -(2**63)}
    rows = [json.dumps({"step": number, "objective": 1}).encode() for number in (1, 10**400, 3)]
    assert [row["step"] for row in read_rows(rows)] == [1, 3]
