"""When something is due, and the beta of a step."""

from __future__ import annotations

import pytest

from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.run import current_beta, due
from rlhf_cli.pipeline.state import TrainState
from rlhf_cli.schedules.controller import ControllerState
from tests.unit.pipeline.runs import TARGET, MakeRun


@pytest.mark.parametrize(
    ("every", "total", "steps"),
    [(2, 6, [2, 4, 6]), (4, 6, [4, 6]), (1, 3, [1, 2, 3]), (10, 3, [3]), (0, 5, []), (3, 3, [3])],
)
def test_every_so_many_steps_and_the_last_one(every: int, total: int, steps: list[int]) -> None:
    assert [step for step in range(1, total + 1) if due(step, every, total)] == steps


def test_a_schedules_beta_is_a_function_of_the_step(policy: Policy, make_run: MakeRun) -> None:
    run = make_run(policy, steps=5, beta={"kind": "linear", "start": 0.1, "end": 0.5})
    assert [current_beta(run, step) for step in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_a_controllers_beta_is_the_present_one_at_every_step(policy: Policy, make_run: MakeRun) -> None:
    run = make_run(policy, steps=5, beta=TARGET)
    assert [current_beta(run, step) for step in (0, 4)] == [0.05, 0.05]
    run.state = TrainState(step=1, control=ControllerState(0.07, 0.1))
    assert [current_beta(run, step) for step in (1, 4)] == [0.07, 0.07]
