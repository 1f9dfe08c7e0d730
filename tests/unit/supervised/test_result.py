"""The figures that a run ends with."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest

from rlhf_cli.evaluation.intervals import Interval, estimate
from rlhf_cli.runs.result import read_final_steps
from rlhf_cli.supervised.evaluation import Evaluation, read_evaluations
from rlhf_cli.supervised.objectives.bradley_terry import BradleyTerry
from rlhf_cli.supervised.objectives.dpo import Dpo
from rlhf_cli.supervised.objectives.sft import Sft
from rlhf_cli.supervised.result import SupervisedResult, changes, reliability_of
from tests.unit.supervised.support import BRADLEY_TERRY, DPO, SFT

PAIRS = {"loss": [0.5, 0.1], "chosen": [1.0, 2.0], "rejected": [0.5, -1.0], "share": [1.0, 0.0], "longer": [1.0, 1.0]}


def test_a_change_is_paired_by_row() -> None:
    """Both rows gain about one nat, which their own difference would hide from an unpaired interval."""
    before = Evaluation(0, {"loss": [10.0, 2.0], "tokens": [2.0, 2.0], "hits": [0.0, 1.0]})
    after = Evaluation(9, {"loss": [8.1, 0.0], "tokens": [2.0, 2.0], "hits": [1.0, 2.0]})
    change = changes(Sft.model_validate(SFT), before, after)
    expected = estimate([-0.95, -1.0])
    assert change["loss"].mean == pytest.approx(expected.mean)
    assert change["loss"].high == pytest.approx(expected.high)
    assert change["accuracy"].mean == 0.5


def test_reliability_is_of_reward_models_alone() -> None:
    """Both pairs are sure of the chosen side; the votes of the second are all for the other."""
    after = Evaluation(3, PAIRS)
    assert reliability_of(Dpo.model_validate(DPO), after) == ()
    bins = reliability_of(BradleyTerry.model_validate(BRADLEY_TERRY), after)
    assert [one.count for one in bins] == [1, 1]
    assert [one.right.mean for one in bins] == [1.0, 0.0]
    assert fmean(one.confidence for one in bins) == pytest.approx((0.6225 + 0.9526) / 2, abs=1e-4)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    figures = {"loss": Interval(0.5, 0.4, 0.6)}
    result = SupervisedResult("sft", 40, 20, 20, 3, 8, figures, figures, figures, ())
    result.write(tmp_path)
    assert SupervisedResult.read(tmp_path) == result
    assert read_final_steps(tmp_path) == (40, 20)
    (tmp_path / "result.json").write_text('{"task": "sft"}')
    assert SupervisedResult.read(tmp_path) is None
    assert read_final_steps(tmp_path) is None


def test_lines_that_are_no_evaluation_are_passed_over(tmp_path: Path) -> None:
    columns = {"loss": [1.0], "tokens": [2.0], "hits": [0.0]}
    lines = json.dumps({"step": 0, "columns": columns}), '{"step": 2}', '{"step": 4, "columns": {"loss": [1.0]}}', "no"
    (tmp_path / "evaluations.jsonl").write_text("\n".join(lines))
    assert read_evaluations(tmp_path, Sft.model_validate(SFT)) == {0: Evaluation(0, columns)}
