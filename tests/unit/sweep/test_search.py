"""The settings and the space of a search."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rlhf_cli.sweep.search import Choice, Interval, Search, describe, shorten


def search(**changes: Any) -> Search:
    settings = {"trials": 1, "objective": "objective", "kl_budget": None, "prune": True, "startup": 1, "seed": 0}
    return Search.model_validate(settings | changes)


@pytest.mark.parametrize("change", [{"trials": 0}, {"startup": 0}, {"seed": -1}, {"kl_budget": 0.0}])
def test_the_least_values(change: dict[str, Any]) -> None:
    search()
    with pytest.raises(ValidationError):
        search(**change)


@pytest.mark.parametrize(
    ("objective", "budget", "fits"),
    [("reward", 1.0, True), ("reward", None, False), ("objective", 1.0, False), ("both", None, True)],
)
def test_only_the_reward_has_a_budget(objective: str, budget: float | None, fits: bool) -> None:
    if fits:
        search(objective=objective, kl_budget=budget)
        return
    with pytest.raises(ValidationError, match="objective=reward has a budget of the KL, and no other objective"):
        search(objective=objective, kl_budget=budget)


def test_a_number_has_four_digits_unless_it_would_leave_the_interval() -> None:
    between = Interval("optimizer.lr", 0.12346, 0.98763, False, None, False)
    assert shorten(0.5123456, between) == 0.5123
    assert shorten(0.123461, between) == 0.1235
    assert shorten(0.98762, between) == 0.9876
    assert shorten(0.98763, between) == 0.9876
    low = Interval("optimizer.lr", 0.12344, 0.5, False, None, False)
    assert shorten(0.123442, low) == 0.123442  # 0.1234 is below


def test_numbers_as_overrides_write_them() -> None:
    whole, quoted = Interval("steps", 1, 9, False, 2, False), Interval("beta", 0.1, 0.4, True, None, True)
    assert (whole.is_whole, whole.texts_to_check()) == (True, ("1", "9"))
    assert (quoted.is_whole, quoted.texts_to_check()) == (False, ("'0.1'", "'0.4'"))
    assert not Interval("steps", 1, 9, False, None, False).is_whole
    assert Choice("beta", ("a", "b")).texts_to_check() == ("a", "b")


def test_more_trials_and_another_pruning_are_the_same_search() -> None:
    space = (Choice("beta", ("'0.1'",)),)
    assert describe(search(), space) == describe(search(trials=9, prune=False), space)
    assert describe(search(), space) != describe(search(seed=1), space)
    assert describe(search(), space) != describe(search(), (Choice("beta", ("'0.2'",)),))
