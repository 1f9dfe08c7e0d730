"""The rules that end a run before its last step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pytest

from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.evaluation.plateau import latest_gain
from rlhf_cli.health.course import Course
from rlhf_cli.health.stopping import Stop, Stopping
from tests.unit.health.samples import CONFIG, evaluation, rows


def course(steps: int = 12, *evaluated: Evaluation, **change: Any) -> Course:
    """The course of a healthy run up to a step; its KL is then 4.2 (step - 1) / 39."""
    of = Course(CONFIG | {"prompts_per_step": 8})
    for row in rows(lambda step: change, steps):
        of.add(row)
    for one in evaluated:
        of.evaluate(one)
    return of


def why(stop: Stop, of: Course, seconds: float = 0.0, evaluations: Sequence[Evaluation] = ()) -> Stopping | None:
    return stop.why(of, seconds, lambda: evaluations)


def test_nothing_ends_a_run_unless_asked() -> None:
    assert why(Stop(), course(40), 1e9, [evaluation(step, 0.3) for step in range(9)]) is None


def test_the_kl_of_the_last_ten_steps() -> None:
    """Steps 3 to 12: 4.2 / 39 * (2 + ... + 11) / 10 = 0.7."""
    assert why(Stop(kl=0.71), course()) is None
    assert why(Stop(kl=0.69), course()) == Stopping(
        "stop.kl", "the KL is 0.7 nats a completion over 10 steps, above 0.69"
    )


def test_the_kl_of_the_step_s_own_evaluation_comes_first() -> None:
    """It is 1 nat."""
    assert why(Stop(kl=0.69), course(12, evaluation(11, 0.4))) is not None
    assert why(Stop(kl=1.5), course(40, evaluation(40, 0.4))) is None
    assert why(Stop(kl=1.0), course(12, evaluation(12, 0.4))) is None
    assert why(Stop(kl=0.9), course(12, evaluation(12, 0.4))) == Stopping(
        "stop.kl", "the KL is 1 nats a completion held out, above 0.9"
    )


def test_a_step_without_the_exact_kl_counts_by_its_samples() -> None:
    of = course(4, **{"kl/seq": None, "kl/seq_k1": 3.0})
    assert why(Stop(kl=2.9), of) == Stopping("stop.kl", "the KL is 3 nats a completion over 4 steps, above 2.9")
    of = course(1, **{"kl/seq": 3.0})
    assert why(Stop(kl=2.9), of) == Stopping("stop.kl", "the KL is 3 nats a completion over 1 step, above 2.9")


def test_tokens_count_all_that_was_sampled() -> None:
    """Two steps of 8 prompts x 4 completions of 10 tokens: 640; a skipped step has sampled too."""
    assert course(2, **{"completion/length": 10.0, "skipped": 1.0}).tokens == 640
    three = {"drawn/rollouts": 3, "drawn/prompts": 20, "drawn/tokens": 800}  # four of 24 prompts have no score
    assert course(2, **{"completion/length": 10.0, "skipped": 1.0, **three}).tokens == 1920
    of = course(2, **{"completion/length": 10.0})
    assert why(Stop(tokens=641), of) is None
    assert why(Stop(tokens=640), of) == Stopping("stop.tokens", "640 tokens are sampled, of 640")


def test_seconds() -> None:
    stop = Stop.model_validate({"seconds": "1m"})
    assert why(stop, course(), 59.9) is None
    assert why(stop, course(), 60.0) == Stopping("stop.seconds", "the steps took 60 s, of 60")
    assert why(stop, course(), 60.4) == Stopping("stop.seconds", "the steps took 60 s, of 60")


def test_a_plateau_is_looked_for_after_an_evaluation_alone() -> None:
    series = [evaluation(step, 0.3) for step in (0, 5, 10, 15, 20)]
    at = course(20, *series)
    found = why(Stop(plateau=0.01), at, 0.0, series)
    assert found is not None
    assert (found.key, found.reason.startswith("J gained +0 from step 10 to 20, and surely less than ")) == (
        "stop.plateau",
        True,
    )
    assert why(Stop(plateau=0.0), at, 0.0, series) is None
    gain = latest_gain(series)
    assert gain is not None
    assert why(Stop(plateau=gain.upper), at, 0.0, series) is None
    assert why(Stop(plateau=0.01), course(21, *series), 0.0, series) is None
    growing = [evaluation(step, 0.02 * step) for step in (0, 5, 10, 15, 20)]
    assert why(Stop(plateau=0.1), course(20, *growing), 0.0, growing) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"kl": 0},
        {"kl": math.inf},
        {"tokens": 0},
        {"seconds": "soon"},
        {"plateau": -1},
        {"plateau": math.inf},
        {"floor_beta": -1},
        {"floor_beta": math.inf},
        {"steps": 3},
    ],
    ids=str,
)
def test_what_cannot_be_a_rule_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Stop.model_validate(wrong)


def test_a_held_out_curve_below_its_floor_is_pruned() -> None:
    """J of the evaluation at its own beta, and at 0.1: 0.335."""
    at = evaluation(12, 0.4)
    of, own = course(12, at), fmean(at.objective(at.beta))
    assert why(Stop(floor=((6, 9.0), (12, own - 0.001))), of) is None
    assert why(Stop(floor=((12, own),)), of) is None
    assert why(Stop(floor=((12, own + 0.001),)), of) is not None
    assert why(Stop(floor=((12, 0.36),), floor_beta=0.1), of) == Stopping(
        "stop.floor", "pruned: the held-out objective is +0.335, below +0.36"
    )
    assert why(Stop(floor=((12, 0.33),), floor_beta=0.1), of) is None
    # only right after the evaluation of that step
    assert why(Stop(floor=((12, 9.0),)), course(13, at)) is None
    assert Stop.model_validate({"floor": [[12, 0.5]]}) == Stop(floor=((12, 0.5),))
