"""The front and the rule of the recommendation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.evaluation.contrasts import Contrast, contrast
from rlhf_cli.evaluation.intervals import Estimate
from rlhf_cli.sweep.choice import Candidate, average, choose, find_gains, find_pareto_front, level, paired_difference
from rlhf_cli.sweep.outcome import HeldOut

WHOLE = st.integers(-3, 3).map(float)
"""Few values, so that ties are frequent."""


def candidate(*rewards: float, kl: float) -> Candidate:
    return {0: evaluation(*rewards, kl=kl)}


def objective(point: Candidate, beta: float) -> dict[int, dict[int, float]]:
    return {seed: last.objective(beta) for seed, last in point.items()}


def evaluation(*rewards: float, kl: float) -> HeldOut:
    return HeldOut(1, 0.0, dict(enumerate(rewards)), dict.fromkeys(range(len(rewards)), kl), {})


@given(st.lists(st.tuples(WHOLE, WHOLE), min_size=1, max_size=12))
def test_the_front_is_exactly_what_nothing_dominates(points: list[tuple[float, float]]) -> None:
    front = find_pareto_front(points)
    assert any(front)
    for place, (kl, reward) in enumerate(points):
        better = [one for one in points if one != (kl, reward) and one[0] <= kl and one[1] >= reward]
        assert front[place] == (not better)


def test_a_front_by_hand() -> None:
    # the third has as much reward as the second at more KL, the fourth less at more; equals are both on the front
    points = [(0.0, 1.0), (1.0, 2.0), (1.5, 2.0), (2.0, 0.5), (1.0, 2.0)]
    assert find_pareto_front(points) == [True, True, False, False, True]


def test_levels_are_over_prompts_or_over_seeds() -> None:
    # one seed: 1, 2, 3 have a standard error of 1/sqrt(3), and t(2) = 4.3027
    assert average({5: {0: 1.0, 1: 2.0, 2: 3.0}}) == Estimate(2.0, pytest.approx(4.3027 / 3**0.5, rel=1e-4), 3)
    # seeds 1 and 2: of means 1 and 3 the standard error is 1, and t(1) = 12.706
    found = average({1: {0: 0.0, 1: 2.0}, 2: {0: 3.0, 1: 3.0}})
    assert found == Estimate(2.0, pytest.approx(12.706, rel=1e-4), 2)


def test_pairs_are_of_the_same_prompt_and_seed() -> None:
    a = {0: {0: 5.0, 1: 9.0, 2: 100.0}, 1: {0: 3.0, 1: 1.0}, 7: {0: 0.0}}
    b = {0: {0: 4.0, 1: 7.0}, 1: {0: 0.0, 1: 1.0}, 8: {0: 0.0}}
    # differences 1, 2 of seed 0 and 3, 0 of seed 1: two prompts with the means 2 and 1
    found = paired_difference(a, b)
    assert found is not None
    # mean squares: seeds 0, prompts 1, the rest 4; the error is sqrt(1 / 4), t(1) = 12.706
    assert (found.interval.mean, found.interval.count, found.error) == (1.5, 2, 0.5)
    assert found.interval.half_width == pytest.approx(0.5 * 12.706, rel=1e-4)
    assert paired_difference({0: {0: 1.0, 1: 2.0}}, {1: {0: 1.0, 1: 2.0}}) is None
    assert paired_difference({0: {0: 1.0, 1: 2.0}}, {0: {1: 2.0}}) is None


def test_a_clear_best_is_chosen_whatever_its_kl() -> None:
    # J at 0.1: 0.5 and 0.4, prompt by prompt 0.1 apart
    found = choose([candidate(0.7, 0.9, kl=3.0), candidate(0.4, 0.6, kl=1.0)], 0.1)
    assert (found.chosen, found.best, found.runner_up, found.alike) == (0, 0, 1, ())
    assert found.differences[0] is None
    difference = found.differences[1]
    assert difference is not None
    assert difference.interval == Estimate(pytest.approx(0.1), pytest.approx(0.0, abs=1e-9), 2)


def test_of_what_is_within_a_standard_error_the_lowest_kl_is_chosen() -> None:
    # J at 0: 0.8, 0.7, 0.1; the second is lower by -0.2 and 0.4: 0.1 with an error of 0.3; the third loses clearly
    field = [candidate(0.7, 0.9, kl=3.0), candidate(0.9, 0.5, kl=1.0), candidate(0.0, 0.2, kl=0.1)]
    found = choose(field, 0.0)
    assert (found.chosen, found.best, found.runner_up, found.alike) == (1, 0, 1, (1,))
    # the same KL everywhere: the best stays
    level_field = [candidate(0.9, 0.5, kl=1.0), candidate(0.7, 0.9, kl=1.0)]
    assert choose(level_field, 0.0).chosen == 1


def test_more_than_a_standard_error_is_not_about_as_good() -> None:
    # lower by 0.1 and 0.5: 0.3 with an error of 0.2, and an interval from -2.2 to 2.8
    found = choose([candidate(0.7, 0.9, kl=3.0), candidate(0.6, 0.4, kl=1.0)], 0.0)
    assert (found.chosen, found.alike) == (0, ())
    difference = found.differences[1]
    assert difference is not None
    assert difference.interval.low < 0


def test_what_is_better_than_a_point_that_is_about_as_good_is_so_too() -> None:
    # J 0.8, 0.7, 0.6: the second is lower by 0.1 -+ 0, the third by -0.3 and 0.7: 0.2 with an error of 0.5
    field = [candidate(0.7, 0.9, kl=3.0), candidate(0.6, 0.8, kl=1.0), candidate(1.0, 0.2, kl=2.0)]
    found = choose(field, 0.0)
    assert (found.chosen, found.alike) == (1, (1, 2))


def test_several_points_may_be_about_as_good_as_the_best() -> None:
    # J 0.8, 0.7, 0.6: lower by -0.2 and 0.4, which is 0.1 with an error of 0.3, and by -0.3 and 0.7, 0.2 with 0.5
    field = [candidate(0.7, 0.9, kl=3.0), candidate(0.9, 0.5, kl=2.0), candidate(1.0, 0.2, kl=1.0)]
    found = choose(field, 0.0)
    assert (found.chosen, found.alike) == (2, (1, 2))


def test_what_cannot_be_paired_is_not_chosen_over_the_best() -> None:
    other = {1: evaluation(0.0, 0.0, kl=0.5)}
    found = choose([candidate(9.0, 9.0, kl=1.0), other], 0.1)
    assert (found.best, found.alike, found.differences[1], found.chosen) == (0, (), None, 0)


def test_a_single_point_is_chosen() -> None:
    found = choose([candidate(1.0, 2.0, kl=1.0)], 0.1)
    assert (found.chosen, found.runner_up, found.differences, found.alike) == (0, None, (None,), ())
    assert found.optimism == 0.0


def test_just_one_standard_error_is_about_as_good() -> None:
    # lower by 0 and 1: 0.5 with an error of 0.5
    found = choose([candidate(1.0, 1.0, kl=3.0), candidate(1.0, 0.0, kl=1.0)], 0.0)
    assert (found.chosen, found.alike) == (1, (1,))


REWARDS = st.lists(st.floats(-2, 2), min_size=3, max_size=3)


@given(
    st.lists(st.tuples(REWARDS, REWARDS, st.sampled_from([0.0, 0.5, 1.0, 2.0])), min_size=1, max_size=6),
    st.sampled_from([0.0, 0.1, 1.0]),
)
def test_what_is_chosen_is_never_clearly_dominated(
    rows: list[tuple[list[float], list[float], float]], beta: float
) -> None:
    field = [{seed: evaluation(*rewards, kl=kl) for seed, rewards in enumerate(seeds)} for *seeds, kl in rows]
    chosen = field[choose(field, beta).chosen]
    for other in field:
        more, less = (
            level(other, lambda last: last.reward).mean >= level(chosen, lambda last: last.reward).mean,
            level(other, lambda last: last.kl).mean <= level(chosen, lambda last: last.kl).mean,
        )
        difference = paired_difference(objective(other, beta), objective(chosen, beta))
        if more and less and other is not chosen:
            assert difference is not None
            assert difference.interval.low <= 1e-12


def test_a_point_that_is_not_among_them_is_not_chosen() -> None:
    field = [candidate(0.9, 0.9, kl=1.0), candidate(0.5, 0.5, kl=1.0), candidate(0.4, 0.4, kl=1.0)]
    found = choose(field, 0.0, [1, 2])
    assert (found.chosen, found.best, found.runner_up, found.differences[0]) == (1, 1, 2, None)


def test_gains_are_clear_by_holms_rule() -> None:
    # t(1) = 12.706 at 95 %, 25.452 at 97.5 %: the means of 0 and 2 x by prompt are x, with an error of x / t
    def gain(t: float, mean: float = 1.0) -> Contrast | None:
        return contrast({0: {0: mean - mean / t, 1: mean + mean / t}})

    assert find_gains([gain(13.0)]) == [0]
    assert find_gains([gain(13.0), gain(13.0)]) == []
    assert find_gains([gain(13.0), gain(26.0)]) == [0, 1]
    assert find_gains([gain(26.0), gain(13.0, -1.0), None]) == [0]
    assert find_gains([None, None]) == [0, 1]
