"""Properties of schedules and of the learning rate."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.schedules import Cosine, Linear
from rlhf_cli.schedules.optimizer import AdamW

values = st.floats(0, 10)
totals = st.integers(1, 300)


@given(st.sampled_from([Linear, Cosine]), values, values, totals)
def test_a_schedule_runs_from_start_to_end_without_turning(
    kind: type[Linear] | type[Cosine], start: float, end: float, total: int
) -> None:
    schedule = kind.model_validate({"kind": kind.__name__.lower(), "start": start, "end": end})
    found = [schedule.at(step, total) for step in range(total)]
    assert abs(found[0] - start) < 1e-9
    assert total == 1 or abs(found[-1] - end) < 1e-9
    rising = 1 if end >= start else -1
    assert all((b - a) * rising >= -1e-9 for a, b in pairwise(found))
    assert all(value >= schedule.lowest - 1e-9 for value in found)


@given(st.sampled_from(["constant", "linear", "cosine"]), st.integers(0, 50), totals)
def test_the_learning_rate_rises_to_its_peak_and_never_rises_again(schedule: str, warmup: int, total: int) -> None:
    optimizer = AdamW.model_validate(
        {
            "kind": "adamw",
            "lr": 0.5,
            "schedule": schedule,
            "warmup_steps": warmup,
            "betas": [0.9, 0.999],
            "eps": 1e-8,
            "weight_decay": 0,
            "max_grad_norm": 1,
        }
    )
    rates = [optimizer.lr_at(step, total) for step in range(total)]
    assert all(0 < rate <= 0.5 for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    if warmup < total:
        assert max(rates) == 0.5
