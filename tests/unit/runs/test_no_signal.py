"""Steps that learn nothing from the reward, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.runs.no_signal import IN_A_ROW, NoSignal, has_no_signal, read_no_signal, why_no_signal


def row(same: float, mean: float = 0.5, error: float | None = 0.1, **more: float) -> dict[str, Any]:
    """A line of metrics.jsonl."""
    return {
        "step": 1,
        "skipped": 0.0,
        "reward/mean": mean,
        "reward/mean_se": error,
        "reward/same_in_group": same,
    } | more


SILENT, LOUD = row(1.0), row(0.75)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], NoSignal(0, 0)),
        ([LOUD], NoSignal(0, 0)),
        ([SILENT, SILENT], NoSignal(2, 2)),
        ([SILENT, LOUD, SILENT], NoSignal(2, 1)),
        ([SILENT, LOUD], NoSignal(1, 0)),
        ([SILENT, row(1.0, skipped=1.0), SILENT], NoSignal(2, 2)),  # a skipped step learned nothing at all
        ([LOUD, row(1.0, skipped=1.0, **{"drawn/kept_prompts": 0})], NoSignal(1, 1)),  # and this one for this reason
        ([LOUD, row(0.5, skipped=1.0, **{"drawn/kept_prompts": 2})], NoSignal(0, 0)),
        ([{"step": 0, "eval/objective": 0.1}, SILENT, {"step": 2, "skipped": 1.0}], NoSignal(1, 1)),
    ],
)
def test_steps_are_counted_by_their_metrics(rows: list[dict[str, Any]], expected: NoSignal, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))
    assert read_no_signal(tmp_path, 4) == expected


def test_a_run_without_metrics_has_none(tmp_path: Path) -> None:
    assert read_no_signal(tmp_path, 4) == NoSignal()


@pytest.mark.parametrize(
    ("samples", "same", "error", "expected"),
    [
        (4, 1.0, 0.0, True),
        (4, 1.0, 0.2, True),  # each prompt has its own score: nothing tells its completions apart
        (4, 0.75, 0.0, False),
        (1, 0.0, 0.0, True),
        (1, 0.0, 0.2, False),
        (1, 0.0, 1e-7, True),  # of a mean of 0.5: rounding
        (1, 0.0, 2e-7, False),
        (1, 1.0, 0.2, True),  # truncated=mask: those that ended have one score
        (1, 0.0, None, False),  # a single completion: its error is infinite, which is null in the file
    ],
)
def test_single_completions_are_compared_with_each_other(
    samples: int, same: float, error: float | None, expected: bool
) -> None:
    assert has_no_signal(row(same, error=error), samples) is expected


@pytest.mark.parametrize(
    ("mean", "error", "clip", "why"),
    [
        (0.0, 0.0, None, "every score is 0"),
        (0.25, 0.0, None, "every score is 0.25"),
        (-0.25, 5e-8, None, "every score is -0.25"),
        (0.25, 0.0, (0.0, 1.0), "every score is 0.25"),
        (1.0, 0.0, (-1.0, 1.0), "every score is at the limit 1 of reward.clip"),
        (0.10000000149011612, 0.0, (0.1, 2.0), "every score is at the limit 0.1 of reward.clip"),  # in float32
        (0.5, 0.1, (0.0, 1.0), "the completions of each prompt have the same score"),
    ],
)
def test_the_reason_names_the_scores(mean: float, error: float, clip: tuple[float, float] | None, why: str) -> None:
    assert why_no_signal(row(1.0, mean, error), clip) == why


@pytest.mark.parametrize(("share", "which"), [(0.5, " that ended"), (0.0, "")])
def test_masked_completions_do_not_count(share: float, which: str) -> None:
    line = row(1.0, 0.5, 0.1) | {"completion/truncated": share}
    assert why_no_signal(line, None, masked=True) == f"the completions of each prompt{which} have the same score"


def test_ten_in_a_row_are_worth_a_second_note() -> None:
    assert IN_A_ROW == 10
