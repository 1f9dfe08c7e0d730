"""evaluation.sides, attempts and diversity: two policies on the same prompts, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean

import pytest

from rlhf_cli.errors import EXIT_REWARD, UserError
from rlhf_cli.evaluation.attempts import MOST, majority_at_k, pass_at_k, sizes
from rlhf_cli.evaluation.diversity import distinct, repetition
from rlhf_cli.evaluation.intervals import Share, estimate, share_of, wilson
from rlhf_cli.evaluation.sides import Answered, compare_sides


def answered(rewards: Sequence[float], kl: float = 0.0, texts: Sequence[str] = (), answers: str = "") -> Answered:
    """Completions with these rewards, each of as many tokens as its number."""
    count = len(rewards)
    return Answered(
        rewards=rewards,
        parts={"style": [2 * reward for reward in rewards]},
        kl=[kl] * count,
        lengths=list(range(count)),
        truncated=[True] + [False] * (count - 1),
        texts=texts or ["x y"] * count,
        answers=list(answers) or ["x"] * count,
    )


def test_every_measure_is_paired_by_prompt() -> None:
    a = {0: answered([1.0, 3.0], kl=2.0), 1: answered([0.5, 2.0], kl=4.0), 3: answered([9.0, 9.0])}
    others = ["z y", "z y"]
    b = {1: answered([1.0, 0.0], texts=others), 0: answered([0.0, 0.0], texts=others), 2: answered([9.0, 9.0])}
    found = compare_sides(a, b, 4, beta=0.1)
    assert (found.prompts, found.samples, found.left_out) == (2, 2, 2)
    by_name = {measure.name: measure for measure in found.measures}
    assert list(by_name) == [
        "J", "reward", "reward/style", "kl", "length", "truncated",
        "distinct_1", "distinct_2", "distinct_3", "repetition",
    ]  # fmt: skip
    assert by_name["reward"].a == estimate([2.0, 1.25])
    assert by_name["reward"].difference == estimate([2.0, 0.75])
    assert by_name["reward/style"].b == estimate([0.0, 1.0])
    assert by_name["J"].a == estimate([2.0 - 0.2, 1.25 - 0.4])
    assert by_name["J"].b == estimate([0.0, 0.5])
    assert by_name["length"].a.mean == by_name["truncated"].a.mean == 0.5
    assert by_name["distinct_1"].a.mean == 0.5
    # prompt 0: 1 > 0 and 3 > 0; prompt 1: 0.5 > 0 and 2 > 1, as samples of the same number are no pair
    assert found.win_rate == wilson(1.0, 2)


def test_without_beta_there_is_no_objective_and_a_single_completion_is_its_own_pair() -> None:
    a, b = ({n: answered([float(r)]) for n in range(2)} for r in (1.5, 1.5))
    found = compare_sides(a, b, 2, beta=None)
    assert found.measures[0].name == "reward"
    assert found.win_rate == wilson(0.5, 2)


def test_without_a_reward_j_is_that_of_the_kl_and_nobody_wins() -> None:
    a, b = ({n: replace(answered([0.0, 0.0], kl=kl), rewards=(), parts={}) for n in range(2)} for kl in (2.0, 0.0))
    found = compare_sides(a, b, 2, beta=0.1)
    by_name = {measure.name: measure for measure in found.measures}
    assert list(by_name)[:2] == ["J", "kl"]
    assert not [name for name in by_name if "reward" in name or "@" in name]
    assert by_name["J"].a == estimate([-0.2, -0.2])
    assert (found.samples, found.win_rate) == (2, None)


def test_a_text_neither_wins_nor_loses_against_itself() -> None:
    """A reward model reads it in other batches, and rounds in another way."""
    a = {n: answered([1.0, 1.0 + 1e-6, 3.0], texts=["same", "same", "mine"]) for n in range(2)}
    b = {n: answered([1.0 - 1e-6, 1.0, 2.0], texts=["same", "same", "theirs"]) for n in range(2)}
    # six pairs: same and same twice, same loses to theirs twice, mine wins twice
    assert compare_sides(a, b, 2, beta=None).win_rate.mean == pytest.approx(0.5)
    b = {n: answered([1.0, 1.0, 0.5], texts=["other", "same", "theirs"]) for n in range(2)}
    # same against same is a tie; the other five are won
    assert compare_sides(a, b, 2, beta=None).win_rate.mean == pytest.approx(5.5 / 6)


def test_attempts_come_with_rewards_of_0_and_1_alone() -> None:
    side = {n: answered([1.0, 0.0, 0.0], answers="abb") for n in range(2)}
    levels = {measure.name: measure.a.mean for measure in compare_sides(side, side, 2, None).measures}
    names = list(levels)
    # of any two of three the one that is right is there in two cases; the majority is wrong
    assert (levels["pass@2"], levels["pass@3"], levels["majority@3"]) == (pytest.approx(2 / 3), 1.0, 0.0)
    assert [name for name in names if "@" in name] == ["pass@2", "pass@3", "majority@3"]
    other = {n: answered([1.0, 0.0, 0.5]) for n in range(2)}
    assert not [m.name for m in compare_sides(side, other, 2, None).measures if "@" in m.name]


def test_levels_that_are_shares_have_intervals_within_0_and_1() -> None:
    """Of two completions of each of two prompts one was cut; a is right throughout, and b is wrong."""
    a, b = ({n: answered([reward, reward]) for n in range(2)} for reward in (1.0, 0.0))
    by_name = {measure.name: measure for measure in compare_sides(a, b, 2, None).measures}
    assert by_name["truncated"].a == share_of(0.5, [0.5, 0.5], 4)
    for name in ("reward", "pass@2"):
        right, wrong = by_name[name].a, by_name[name].b
        assert isinstance(right, Share)
        assert isinstance(wrong, Share)
        assert (right.mean, right.high, wrong.mean) == (1.0, 1.0, 0.0)
        assert wrong.low == pytest.approx(0.0, abs=1e-12)
        assert right.low == pytest.approx(1 - wrong.high)
        assert 0 < right.low < 0.1  # two prompts say little, however much alike they are
    assert by_name["reward/style"].a == estimate([2.0, 2.0])
    assert by_name["distinct_1"].a == estimate([0.5, 0.5])


def test_a_share_counts_no_more_observations_than_there_are_completions() -> None:
    """Means of 0.4 and 0.6 have a standard error of 0.1, as 25 observations have; there are twice five."""
    side = {0: answered([1.0, 1.0, 0.0, 0.0, 0.0]), 1: answered([1.0, 1.0, 1.0, 0.0, 0.0])}
    level = next(measure.a for measure in compare_sides(side, side, 2, None).measures if measure.name == "reward")
    assert level == share_of(0.5, [0.4, 0.6], 10)
    assert level.count == 10


def test_too_few_prompts_in_both() -> None:
    with pytest.raises(UserError, match="1 of 3 prompts have a score") as caught:
        compare_sides({0: answered([1.0]), 1: answered([1.0])}, {1: answered([1.0])}, 3, None)
    assert caught.value.exit_code == EXIT_REWARD


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_pass_at_k_is_that_of_all_choices(k: int) -> None:
    right = [True, False, False, True, False]
    by_hand = fmean(any(chosen) for chosen in combinations(right, k))
    assert pass_at_k(right, k) == pytest.approx(by_hand)


def test_majority_by_hand() -> None:
    """Answers a a b, of which a is right: any two are aa (right), ab or ab (half)."""
    right = [True, True, False]
    assert majority_at_k("aab", right, 2) == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert majority_at_k("aab", right, 3) == 1.0
    assert majority_at_k("aab", right, 1) == pytest.approx(2 / 3)
    assert majority_at_k([None, None, "b"], [False, False, True], 3) == 1.0
    assert majority_at_k([None, None], [False, False], 2) == 0.0


def test_a_majority_of_many_is_drawn_and_repeats() -> None:
    answers, right = ["a"] * 12 + ["b"] * 8, [True] * 12 + [False] * 8
    found = majority_at_k(answers, right, 7)
    law = fmean(fmean(c) > 0.5 for c in combinations(right, 7))
    assert found == majority_at_k(answers, right, 7)
    assert found == pytest.approx(law, abs=3 * (law * (1 - law) / MOST) ** 0.5)


def test_up_to_five_thousand_choices_are_all_gone_through() -> None:
    assert MOST == 5000
    assert majority_at_k([f"{n}" for n in range(MOST)], [n % 2 == 0 for n in range(MOST)], 1) == 0.5


def test_sizes_are_powers_of_two_and_all() -> None:
    assert [sizes(n) for n in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_distinct_and_repeated_words() -> None:
    assert distinct(["a b a b", "A b"], 1) == pytest.approx(2 / 6)
    assert distinct(["a b a b", "A b"], 2) == pytest.approx(2 / 4)
    assert distinct(["a"], 2) == 0.0
    assert distinct(["a b"], 2) == 1.0
    assert repetition("a b c d a b c d") == pytest.approx(1 - 4 / 5)  # of four words each: the first comes again
    assert repetition("a b a b a b", 2) == pytest.approx(1 - 2 / 5)
    assert repetition("a b c d e") == 0.0
    assert repetition("") == 0.0
