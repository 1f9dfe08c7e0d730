"""The optimum from the trials' own evaluations."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from rlhf_cli.evaluation.oracle import CurvePoint
from rlhf_cli.sweep.answer import answer
from rlhf_cli.sweep.outcome import Outcome, read_trial
from rlhf_cli.sweep.reach import is_above, reach, reference_of
from rlhf_cli.sweep.record import SweepRecord, Trial
from tests.unit.support import config_of, tiny
from tests.unit.sweep.made import EVALUATE, OTHER, two_by_two, write_lines, write_trial

CURVE = (CurvePoint(0.0, 0.0, True), CurvePoint(1.0, 1.0, True), CurvePoint(2.0, 1.5, False))


@pytest.mark.parametrize(
    ("kl", "reward", "expected"),
    [
        (0.5, 0.51, True),
        (0.5, 0.5, False),
        (0.5, 0.49, False),
        (0.0, 0.1, True),
        (1.0, 1.1, True),
        (1.5, 9.0, False),
        (3.0, 9.0, False),
    ],
)
def test_above_is_above_the_straight_line_where_there_are_samples_enough(
    kl: float, reward: float, expected: bool
) -> None:
    # from (0, 0) to (1, 1); beyond KL 1 nobody knows
    assert is_above(CURVE, kl, reward) == expected


def test_the_line_by_hand() -> None:
    # a quarter of the way from (0.5, 1) to (2.5, 4): 1.75
    curve = (CurvePoint(0.5, 1.0, True), CurvePoint(2.5, 4.0, True))
    assert [is_above(curve, 1.0, reward) for reward in (1.74, 1.75, 1.76)] == [False, False, True]


def test_where_the_curve_rises_at_once_its_upper_end_counts() -> None:
    upright = (CurvePoint(1.0, 1.0, True), CurvePoint(1.0, 1.5, True))
    assert [is_above(upright, 1.0, reward) for reward in (1.4, 1.6)] == [False, True]


def rewards_of_reference(trial: Path, rewards: list[list[float]]) -> None:
    """Give the evaluation of step 0 these completions."""
    file = trial / "evaluations.jsonl"
    first, *rest = (json.loads(line) for line in file.read_text().splitlines())
    ones = [[1] * len(values) for values in rewards]
    write_lines(file, [first | {"reward": rewards, "kl": ones, "length": ones}, *rest])


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_of_one_seed_the_trial_with_most_completions_counts(tmp_path: Path, order: str) -> None:
    # streams depend on the sample's number: the four completions of b begin with the two of a
    for name, samples in (("a", 2), ("b", 4)):
        write_trial(tmp_path / name, [0.1, 0.2, 0.3, 0.4], 1.0, evaluate=EVALUATE | {"samples": samples})
        rewards_of_reference(tmp_path / name, [[0.0, 1.0, 1.0, 1.0][:samples]] * 4)
    sweep = SweepRecord(tmp_path, "", tuple(Trial(name, {"evaluate.samples": name}) for name in order))
    found = answer(sweep).oracle
    assert found is not None
    assert (found.prompts, found.samples, found.temperature) == (4, 4, 1.0)
    assert found.best_of[0].reward == pytest.approx(0.75)


def test_the_prompt_with_the_fewest_completions_counts(tmp_path: Path) -> None:
    write_trial(tmp_path / "a", [0.1, 0.2, 0.3, 0.4], 1.0)
    rewards_of_reference(tmp_path / "a", [[0.0, 1.0, 1.0], [0.0, 1.0], [0.5, 0.5], [0.5, 0.5]])
    found = answer(SweepRecord(tmp_path, "", (Trial("a", {}),))).oracle
    assert found is not None
    assert found.samples == 2


def test_the_reference_is_the_model_without_its_adapter_or_another() -> None:
    own = reference_of(config_of())
    assert own["kind"] == "tiny"
    assert reference_of(config_of(model=tiny(rank=3).model_dump(mode="json"))) == own
    assert reference_of(config_of(model=tiny(seed=3).model_dump(mode="json"))) != own
    assert reference_of(config_of(reference=OTHER))["path"] == "teacher"


def test_a_single_completion_a_prompt_is_too_few(tmp_path: Path) -> None:
    sweep = two_by_two(tmp_path, seeds=(0,))
    for trial in sweep.trials:
        rewards_of_reference(tmp_path / trial.name, [[0.5]] * 4)
    outcomes = [one for trial in sweep.trials if isinstance(one := read_trial(sweep, trial), Outcome)]
    found, reason = reach(outcomes, 0.1)
    assert found is None
    assert reason == "one completion of the reference a prompt: evaluate.samples=2 is the least"


def test_another_model_is_the_reference_by_its_own_completions(tmp_path: Path) -> None:
    # the policy scores 0.2 before training, the reference 0 and 1: log Z at beta 0.1 is log((1 + e^10) / 2)
    sweep = two_by_two(tmp_path, seeds=(0,), reference=OTHER)
    assert answer(sweep).no_oracle == "no trial evaluated the reference"
    for trial in sweep.trials:
        file = tmp_path / trial.name / "evaluations.jsonl"
        first, *rest = (json.loads(line) for line in file.read_text().splitlines())
        sampled = {name: [[0.0, 1.0]] * 4 for name in ("reward", "logprob", "ref_logprob")}
        write_lines(file, [first | {"reference": sampled}, *rest])
    found = answer(sweep).oracle
    assert found is not None
    assert found.points[0].reference == pytest.approx(0.5)
    assert found.points[0].optimum == pytest.approx(0.1 * math.log((1 + math.exp(10)) / 2))


def test_without_a_beta_there_is_a_curve_and_no_optimum(tmp_path: Path) -> None:
    sweep = two_by_two(tmp_path, beta={"kind": "constant", "value": 0.0})
    found = answer(sweep)
    assert found.beta == 0
    assert found.oracle is not None
    assert found.oracle.points == ()
    assert found.recommended == 1  # the most reward
    assert not any("half this beta" in sentence for sentence in found.reason)
