"""The bound on the held-out gain, and that it holds however often it is looked at."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.evaluation.optimum import unknown
from rlhf_cli.evaluation.plateau import Gain, bound, latest_gain


def evaluation(step: int, rewards: list[float], beta: float = 0.1) -> Evaluation:
    """A completion a prompt, with a KL of `step` nats."""
    count = len(rewards)

    def same(value: object) -> list[list[object]]:
        return [[value]] * count

    columns: Any = [same(value) for value in (float(step), 3, False, "a", -2.0, -3.0)]
    reward = [[value] for value in rewards]
    return Evaluation(step, beta, [*range(count)], 0, reward, *columns, None, unknown("a reason"))


def test_the_bound_by_hand() -> None:
    """Gains 1, 2, 3: mean 2, error sqrt(1/3); look 1 has the level 0.975, whose quantile for 2 degrees is 4.3027."""
    mean, upper = bound([1.0, 2.0, 3.0], 1)
    assert (mean, upper) == (2.0, pytest.approx(2 + 4.302653 * math.sqrt(1 / 3), abs=1e-4))
    assert bound([1.0, 2.0, 3.0], 2)[1] == pytest.approx(2 + 7.648866 * math.sqrt(1 / 3), abs=1e-2)  # level 1 - 0.05/6


def test_the_first_look_is_at_the_fourth_evaluation_after_a_step() -> None:
    series = [evaluation(step, [0.1 * step, 0.2 * step, 0.4 * step]) for step in range(6)]
    assert latest_gain(series[:4]) is None
    gain = latest_gain(series[:5])
    assert gain is not None
    assert (gain.since, gain.step) == (2, 4)
    later = latest_gain(series)
    assert later is not None
    assert (later.since, later.step) == (2, 5)


def test_both_are_compared_at_the_later_beta_on_common_prompts() -> None:
    """From step 2 to 4: rewards +1 and +3, KL +2 at beta 0.5."""
    series = [evaluation(step, [0.0, 0.0, 0.0]) for step in range(4)] + [evaluation(4, [1.0, 3.0], beta=0.5)]
    mean, upper = bound([0.0, 2.0], 1)
    assert latest_gain(series) == Gain(2, 4, mean, upper)
    other = replace(evaluation(4, [1.0, 3.0]), prompts=[7, 8])
    assert latest_gain([*series[:4], other]) is None


@pytest.mark.parametrize("noise", ["independent", "walk", "slopes"])
def test_a_run_that_gains_as_much_as_asked_is_hardly_ever_stopped(noise: str) -> None:
    """200 runs of 40 looks, whose gain is at every look exactly what is asked for: 5 % and 3 standard errors of that.

    Looks that share nothing are the worst case: the bound is then sharp. Those of a run share prompts and evaluations.
    """
    draw, stops = random.Random(3), 0
    for _ in range(200):
        prompts = [draw.gauss(0, 1) for _ in range(16)]
        walk = [0.0] * 16
        for look in range(1, 41):
            walk = [w + draw.gauss(0, 0.2) for w in walk]
            errors = {
                "independent": [draw.gauss(0, 1) for _ in prompts],
                "walk": walk,
                "slopes": [look * p for p in prompts],
            }[noise]
            if bound([1.0 + error for error in errors], look)[1] < 1.0:
                stops += 1
                break
    assert stops <= {"independent": 19, "walk": 10, "slopes": 10}[noise]
