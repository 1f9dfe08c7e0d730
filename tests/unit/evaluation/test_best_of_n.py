"""functional.best_of_n: against every choice there is."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations, product
from random import Random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.evaluation.best_of_n import best_of_n_kl, expected_best

TIED = [0.0, 0.0, 0.0, 0.5, 0.5, 1.0]
FEW = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=7)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("rewards", [TIED, [3.0, -1.0, 4.0, 1.5, 9.0, 2.6]], ids=["tied", "distinct"])
def test_the_reward_is_the_mean_over_every_choice(rewards: list[float], n: int) -> None:
    assert expected_best(rewards, n) == pytest.approx(fmean(max(some) for some in combinations(rewards, n)))


@given(FEW, st.integers(1, 7))
def test_the_reward_over_every_choice_of_any_rewards(rewards: list[float], n: int) -> None:
    n = min(n, len(rewards))
    assert expected_best(rewards, n) == pytest.approx(fmean(max(some) for some in combinations(rewards, n)))


@pytest.mark.parametrize("n", [0, 3])
def test_more_samples_than_there_are_cannot_be_chosen(n: int) -> None:
    with pytest.raises(ValueError, match=f"the best of {n}, out of 2 samples"):
        expected_best([1.0, 2.0], n)


def test_the_reward_of_many_samples() -> None:
    # The best of n uniform draws is n/(n+1); of 0 .. N-1 without replacement n(N+1)/(n+1) - 1
    assert expected_best([float(i) for i in range(2000)], 500) == pytest.approx(500 * 2001 / 501 - 1)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_kl_with_ties_is_that_of_every_draw(n: int) -> None:
    """Completion by completion: equal rewards share their part as the reference would, which draws them alike."""
    size = len(TIED)
    chosen: Counter[int] = Counter()
    for rows in product(range(size), repeat=n):
        best = max(TIED[i] for i in rows)
        chosen[next(i for i in rows if TIED[i] == best)] += 1  # the first of the best ones: any row alike
    kl = sum(count / size**n * math.log(count / size**n * size) for count in chosen.values())
    assert best_of_n_kl(TIED, n) == pytest.approx(kl, abs=1e-12)


def test_the_kl_by_hand() -> None:
    # Two of four score: F = 1/2, 1; the best of 2 scores in 3/4: 1/4 log(1/2) + 3/4 log(3/2)
    assert best_of_n_kl([0.0, 1.0, 0.0, 1.0], 2) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert best_of_n_kl([0.5] * 9, 8) == 0.0


@pytest.mark.parametrize("n", [1, 2, 4, 16])
def test_the_kl_without_ties_is_near_the_formula_and_with_ties_below_it(n: int) -> None:
    formula = math.log(n) - (n - 1) / n
    source = Random(0)
    distinct = [source.random() for _ in range(1000)]
    assert best_of_n_kl(distinct, n) == pytest.approx(formula, abs=1e-3)
    assert best_of_n_kl(distinct, n) <= formula + 1e-12
    if n > 1:
        assert best_of_n_kl([float(r > 0.5) for r in distinct], n) < formula - 0.01


def test_a_share_too_small_for_a_float_is_nothing() -> None:
    formula = math.log(500) - 499 / 500
    assert formula - 0.05 < best_of_n_kl([float(i) for i in range(1000)], 500) < formula


@given(FEW, st.integers(1, 50))
def test_the_kl_is_between_nothing_and_the_formula(rewards: list[float], n: int) -> None:
    assert -1e-12 <= best_of_n_kl(rewards, n) <= math.log(n) - (n - 1) / n + 1e-12
