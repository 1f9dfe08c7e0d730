"""The learning rate of each step."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from rlhf_cli.schedules.optimizer import AdamW


def adamw(**changes: Any) -> AdamW:
    fields = {
        "kind": "adamw",
        "lr": 0.5,
        "schedule": "constant",
        "warmup_steps": 0,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
    }
    return AdamW.model_validate(fields | changes)


def rates(optimizer: AdamW, total: int) -> list[float]:
    return [optimizer.lr_at(step, total) for step in range(total)]


def test_the_warmup_rises_in_even_parts_and_its_last_step_has_the_peak() -> None:
    assert rates(adamw(warmup_steps=4), 6) == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]


def test_linear_falls_over_the_steps_after_the_warmup_and_never_reaches_zero() -> None:
    # 2 steps of warm-up, then 1, 3/4, 2/4, 1/4 of the peak
    assert rates(adamw(schedule="linear", warmup_steps=2), 6) == [0.25, 0.5, 0.5, 0.375, 0.25, 0.125]


def test_cosine_falls_over_the_steps_after_the_warmup() -> None:
    # (1 + cos(0, pi/4, pi/2, 3 pi/4)) / 2 of the peak
    half = math.sqrt(0.5) / 2
    by_hand = [0.5, 0.5, 0.5 * (0.5 + half), 0.25, 0.5 * (0.5 - half)]
    assert rates(adamw(schedule="cosine", warmup_steps=1), 5) == pytest.approx(by_hand)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_one_step_past_the_end_the_rate_would_be_zero(schedule: str) -> None:
    assert adamw(schedule=schedule, warmup_steps=2).lr_at(7, 7) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize(("warmup", "total"), [(0, 1), (1, 1), (5, 3), (3, 3), (0, 10), (3, 10)])
def test_every_step_has_a_rate_above_zero_and_at_most_the_peak(schedule: str, warmup: int, total: int) -> None:
    assert all(0 < rate <= 0.5 for rate in rates(adamw(schedule=schedule, warmup_steps=warmup), total))


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.0},
        {"lr": 1.0},
        {"lr": math.nan},
        {"lr": math.inf},
        {"eps": 0.0},
        {"eps": math.inf},
        {"weight_decay": -0.1},
        {"weight_decay": math.inf},
        {"max_grad_norm": 0.0},
        {"max_grad_norm": math.nan},
        {"warmup_steps": -1},
        {"schedule": "step"},
        {"betas": [0.9]},
        {"betas": [0.9, 1.0]},
        {"betas": [1.0, 0.9]},
        {"momentum": 0.9},
    ],
)
def test_nonsense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        adamw(**change)


def test_infinity_switches_clipping_off() -> None:
    assert adamw(max_grad_norm=math.inf).max_grad_norm == math.inf
