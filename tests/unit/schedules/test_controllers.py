"""Controllers of beta, at steps worked out by hand and on a plant that answers as a policy does."""

from __future__ import annotations

import math
from itertools import islice, pairwise
from statistics import fmean
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from rlhf_cli.schedules import Adaptive, Beta, Controlled, Schedule, Target
from rlhf_cli.schedules.controller import ControllerState

ADAPTIVE = Adaptive(kind="adaptive", start=0.1, target=4.0, horizon_steps=10, lowest=1e-4, highest=10.0)
TARGET = Target(kind="target", start=0.1, target=4.0, proportional=0.5, integral=0.1, lowest=1e-4, highest=10.0)


@pytest.mark.parametrize(
    ("kl", "factor"),
    [
        (4.0, 1.0),
        (4.4, 1.01),  # 10 % over: 1 + .1 / 10
        (3.6, 0.99),
        (8.0, 1.02),  # clipped to 20 %
        (0.0, 0.98),
    ],
)
def test_adaptive_by_hand(kl: float, factor: float) -> None:
    assert ADAPTIVE.observe(ADAPTIVE.begin(), kl).beta == pytest.approx(0.1 * factor)
    assert ADAPTIVE.observe(ControllerState(0.3, 0.2), kl).beta == pytest.approx(0.3 * factor)


def test_adaptive_begins_at_its_start_without_an_error() -> None:
    assert ADAPTIVE.begin() == ControllerState(0.1, 0.0)


def test_target_by_hand() -> None:
    begun = TARGET.begin()
    assert begun == ControllerState(0.1, -1.0)
    # kl 2: error -.5; .5 (-.5 + 1) + .1 * -.5 = .2
    first = TARGET.observe(begun, 2.0)
    assert first == ControllerState(pytest.approx(0.1 * math.exp(0.2)), -0.5)
    # kl 5: error .25; .5 (.25 + .5) + .1 * .25 = .4
    second = TARGET.observe(first, 5.0)
    assert second == ControllerState(pytest.approx(0.1 * math.exp(0.6)), 0.25)
    # far over: the error is held to 1
    assert TARGET.observe(second, 40.0) == ControllerState(pytest.approx(0.1 * math.exp(0.6 + 0.375 + 0.1)), 1.0)


def test_at_the_target_beta_rests() -> None:
    assert TARGET.observe(ControllerState(0.2, 0.0), 4.0) == ControllerState(0.2, 0.0)


def answers(controller: Controlled, optimal: float, speed: float) -> Any:
    """KLs of a policy that moves a share `speed` of the way to optimal / beta at each step."""
    control, kl = controller.begin(), 0.0
    while True:
        kl += speed * (optimal / control.beta - kl)
        control = controller.observe(control, kl)
        yield kl


@pytest.mark.parametrize("controller", [ADAPTIVE.model_copy(update={"horizon_steps": 2.0}), TARGET], ids=["a", "t"])
@pytest.mark.parametrize("optimal", [0.05, 0.4, 4.0])
@pytest.mark.parametrize("speed", [0.05, 0.5])
def test_it_settles_wherever_it_starts(controller: Controlled, optimal: float, speed: float) -> None:
    kls = list(islice(answers(controller, optimal, speed), 400))
    assert fmean(kls[-50:]) == pytest.approx(4.0, rel=0.05)
    assert max(abs(b - a) for a, b in pairwise(kls[-50:])) < 0.4


@pytest.mark.parametrize("controller", [ADAPTIVE, TARGET], ids=["adaptive", "target"])
@pytest.mark.parametrize(("kl", "bound"), [(0.0, 1e-4), (1e9, 10.0)])
def test_a_target_out_of_reach_does_not_let_beta_run_away(controller: Controlled, kl: float, bound: float) -> None:
    control = controller.begin()
    for _ in range(1000):
        control = controller.observe(control, kl)
    assert control.beta == bound


@pytest.mark.parametrize("controller", [ADAPTIVE, TARGET], ids=["adaptive", "target"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"target": 0.0},
        {"start": 0.0},
        {"lowest": 0.0},
        {"highest": 0.0},
        {"target": math.inf},
        {"start": math.inf},
        {"lowest": math.inf},
        {"highest": math.inf},
    ],
    ids=str,
)
def test_values_that_make_no_sense_are_refused(controller: Controlled, wrong: dict[str, Any]) -> None:
    TypeAdapter(Beta).validate_python(controller.model_dump())
    with pytest.raises(ValidationError):
        TypeAdapter(Beta).validate_python(controller.model_dump() | wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        ADAPTIVE.model_dump() | {"horizon_steps": 0.5},
        ADAPTIVE.model_dump() | {"horizon_steps": math.inf},
        TARGET.model_dump() | {"proportional": -0.1},
        TARGET.model_dump() | {"proportional": 10.1},
        TARGET.model_dump() | {"integral": 0.0},
        TARGET.model_dump() | {"integral": 1.1},
    ],
)
def test_gains_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Beta).validate_python(wrong)


@pytest.mark.parametrize("controller", [ADAPTIVE, TARGET], ids=["adaptive", "target"])
@pytest.mark.parametrize("name", ["target", "start", "lowest", "highest"])
def test_small_values_are_as_good_as_large_ones(controller: Controlled, name: str) -> None:
    found = TypeAdapter(Beta).validate_python(controller.model_dump() | {name: 1e-3})
    assert getattr(found, name) == 1e-3


@pytest.mark.parametrize(
    ("controller", "name", "value"),
    [
        (ADAPTIVE, "horizon_steps", 1.0),
        (TARGET, "proportional", 0.0),
        (TARGET, "proportional", 10.0),
        (TARGET, "integral", 1e-3),
        (TARGET, "integral", 1.0),
    ],
)
def test_the_ends_of_the_ranges_are_inside(controller: Controlled, name: str, value: float) -> None:
    assert getattr(TypeAdapter(Beta).validate_python(controller.model_dump() | {name: value}), name) == value


def test_a_temperature_cannot_follow_the_kl() -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Schedule).validate_python(ADAPTIVE.model_dump())
