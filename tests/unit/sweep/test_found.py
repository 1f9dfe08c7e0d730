"""The result of a search, in sentences."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.sweep.answer import answer
from rlhf_cli.sweep.found import repeat_command
from rlhf_cli.sweep.record import SweepRecord
from tests.unit.sweep.made import two_by_two

COMMAND = (
    "rlhf train config=tiny -m hydra/sweeper=optuna hydra.sweeper.trials=4 beta=0.1,0.2 "
    "'temperature=interval(0.7,1)' steps=4 jobs=2"
)


def searched(folder: Path, **changes: Any) -> SweepRecord:
    """The four points of TABLE with one seed, as a search."""
    settings = {"trials": 4, "objective": "objective", "kl_budget": None, "prune": True, "startup": 3, "seed": 0}
    record = replace(two_by_two(folder, seeds=(0,)), command=COMMAND, search=settings | changes, compare_at=0.1)
    record.write()
    assert SweepRecord.read(folder) == record
    return record


def test_the_best_by_j_and_why_that_is_optimistic(tmp_path: Path) -> None:
    """J at 0.1: 0.40, 0.42, 0.25, 0.28."""
    tried, best, caution, *_ = answer(searched(tmp_path)).reason
    assert tried == "The search tried 4 settings: 4 to the end."
    assert best.startswith("The highest held-out J is +0.420 ± ")
    assert "point 2 (beta=0.1, temperature=1), reward +0.500 ± " in best
    assert best.endswith(", KL 0.800 ± 0.000.")
    assert caution.startswith("The best of 4 is optimistic: it was chosen for being high")
    repeat = "rlhf train config=tiny steps=4 beta=0.1 temperature=1 -m seed=1 seeds=3"
    assert caution.endswith(f"Repeat it with seeds that the search has not seen: {repeat}")


@pytest.mark.parametrize(("budget", "best"), [(9.0, 1), (2.0, 1), (1.0, 2), (0.5, 4)])
def test_the_best_reward_within_the_budget(budget: float, best: int, tmp_path: Path) -> None:
    sentence = answer(searched(tmp_path, objective="reward", kl_budget=budget)).reason[1]
    assert sentence.startswith(f"The highest held-out reward at a KL of at most {budget:g} nats is ")
    assert f": point {best} (" in sentence


def test_a_budget_that_no_trial_keeps(tmp_path: Path) -> None:
    reason = answer(searched(tmp_path, objective="reward", kl_budget=0.1)).reason
    assert reason[1] == "No trial has a held-out KL within the budget of 0.1 nats."


def test_the_front_by_rising_kl(tmp_path: Path) -> None:
    reason = answer(searched(tmp_path, objective="both")).reason
    front = [sentence.split(" (")[0] for sentence in reason if sentence.startswith("On the Pareto front: ")]
    assert front == [f"On the Pareto front: point {number}" for number in (4, 2, 1)]


def test_pruned_trials_are_counted_and_left_out(tmp_path: Path) -> None:
    record = searched(tmp_path)
    stopped = {"key": "stop.floor", "reason": "pruned: the held-out objective is +0.1, below +0.2"}
    file = record.path(record.trials[2]) / "result.json"
    whole = {"step": 2, "beta": 0.1, "prompts": 4, "samples": 2, "comparison": None, "optimum": None, "texts": []}
    file.write_text(json.dumps(whole | {"stopped": stopped}))
    found = answer(record)
    assert found.reason[0] == "The search tried 4 settings: 3 to the end, 1 pruned."
    (pruned,) = found.left_out
    assert (pruned.state, pruned.reason) == ("pruned", "at step 4: the held-out objective is +0.1, below +0.2")


def test_values_with_spaces_are_quoted(tmp_path: Path) -> None:
    record = SweepRecord(tmp_path, "rlhf train -m hydra/sweeper=optuna 'data.path=a b,c' sweep_dir=s seed=4", ())
    assert repeat_command(record, {"data.path": "a b"}, 4) == "rlhf train 'data.path=a b' -m seed=5 seeds=3"
