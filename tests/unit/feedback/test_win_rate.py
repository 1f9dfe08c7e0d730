"""feedback.win_rate: unbiased, however pairs were chosen; and Wilson's interval where they were random."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from statistics import fmean

import pytest

from rlhf_cli.evaluation.intervals import wilson
from rlhf_cli.feedback.choice import Prediction, draw, informative
from rlhf_cli.feedback.pairs import Pair, with_ids
from rlhf_cli.feedback.preference import Row
from rlhf_cli.feedback.votes import Standing, Vote
from rlhf_cli.feedback.win_rate import Estimated, combine, estimate, is_random, reward_agreement, win_rate
from tests.unit.feedback.samples import pairs_of, standing, vote

NAMES = {1.0: "a", 0.5: "tie", 0.0: "b"}


def random_votes(pairs: Sequence[Pair], words: str, rater: str = "me") -> Standing:
    """Votes (a, b, t, s) on the first pairs, as random draws leave them."""
    names = {"a": "a", "b": "b", "t": "tie", "s": "skip"}
    votes = enumerate(zip(pairs, words, strict=False))
    return standing(*(vote(p, names[w], rater=rater, chance=1 / (len(pairs) - n)) for n, (p, w) in votes))


def drawn_in_every_way(
    pairs: Sequence[Pair], scores: Mapping[str, float | None], count: int
) -> list[tuple[float, Standing]]:
    """Every sequence of `count` informative draws, with its probability; a pair without a score is skipped."""
    sequences: list[tuple[float, list[Vote]]] = [(1.0, [])]
    for _ in range(count):
        longer = []
        for probability, votes in sequences:
            prediction = Prediction(pairs)
            for one in votes:
                if one.score is not None:
                    prediction.learn(one.pair, one.score)
            left = [pair.id for pair in pairs if pair.id not in {one.pair for one in votes}]
            for name, chance in zip(left, informative(prediction.of(left)), strict=True):
                score = scores[name]
                cast = vote(name, "skip" if score is None else NAMES[score], chance=chance)
                longer.append((probability * chance, [*votes, cast]))
        sequences = longer
    return [(probability, standing(*votes)) for probability, votes in sequences]


@pytest.mark.parametrize("count", [2, 5])
def test_the_estimate_is_unbiased_though_the_choice_is_not(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over every sequence of draws, the estimate's mean is the mean of all scores; that of the plain votes is not."""
    monkeypatch.setattr("rlhf_cli.feedback.choice.EVERY", 1)
    pairs = with_ids(
        Row(f"{n}", "x" * (n + 1), "yy", (reward, 0.0)) for n, reward in enumerate([4.0, 0.1, -3.0, 0.0, 5.0])
    )
    scores = dict(zip([pair.id for pair in pairs], [1.0, 0.0, 0.5, 0.0, 1.0], strict=True))
    ways = drawn_in_every_way(pairs, scores, count)
    assert math.fsum(probability for probability, _ in ways) == pytest.approx(1.0)
    expected, plain = 0.0, 0.0
    for probability, found in ways:
        estimated = estimate(found, pairs)
        assert estimated is not None
        expected += probability * estimated.mean
        plain += probability * fmean(scores[pair] for pair in found.valid)
    assert expected == pytest.approx(0.5, abs=1e-12)
    if count < len(pairs):
        assert abs(plain - 0.5) > 0.02


def test_pairs_that_are_added_later_are_no_part_of_the_draws_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two draws from three pairs, then two from five: over all orders each draw has the mean of the pairs there."""
    monkeypatch.setattr("rlhf_cli.feedback.choice.EVERY", 1)
    pairs = with_ids(Row(f"{n}", "x" * (n + 1), "yy", (r, 0.0)) for n, r in enumerate([4.0, 0.1, -3.0, 0.5, 5.0]))
    scores, sizes = dict(zip([pair.id for pair in pairs], [1.0, 0.0, 0.0, 1.0, 1.0], strict=True)), (3, 3, 5, 5)
    ways: list[tuple[float, list[Vote]]] = [(1.0, [])]
    for size in sizes:
        longer = []
        for probability, votes in ways:
            prediction = Prediction(pairs[:size])
            for one in votes:
                prediction.learn(one.pair, scores[one.pair])
            left = [pair.id for pair in pairs[:size] if pair.id not in {one.pair for one in votes}]
            for name, chance in zip(left, informative(prediction.of(left)), strict=True):
                cast = replace(vote(name, NAMES[scores[name]], chance=chance), of=size)
                longer.append((probability * chance, [*votes, cast]))
        ways = longer
    expected = 0.0
    for probability, votes in ways:
        estimated = estimate(standing(*votes), pairs)
        assert estimated is not None
        expected += probability * estimated.mean
    weights = [1 / left**2 for left in (3, 2, 3, 2)]
    means = [1 / 3, 1 / 3, 3 / 5, 3 / 5]
    assert expected == pytest.approx(sum(w * m for w, m in zip(weights, means, strict=True)) / sum(weights), abs=1e-12)


WITH_SKIPS = [1.0, None, 0.0, 0.5, None, 1.0]


@pytest.mark.parametrize(("count", "bound"), [(6, 1e-12), (4, 2 / 6), (3, 2 / 6)])
def test_skips_under_informative_choice(count: int, bound: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unbiased once the pairs that are skipped are known; before, each of them shifts it by 1 in N at most.

    Over every order of the draws, for the pairs that people have an opinion on: those with a score.
    """
    monkeypatch.setattr("rlhf_cli.feedback.choice.EVERY", 1)
    pairs = with_ids(
        Row(f"{n}", "x" * (n + 1), "yy", (reward, 0.0)) for n, reward in enumerate([4.0, 0.1, -3.0, 0.5, 5.0, 0.0])
    )
    scores = dict(zip([pair.id for pair in pairs], WITH_SKIPS, strict=True))
    expected, certain = 0.0, 0.0
    for probability, found in drawn_in_every_way(pairs, scores, count):
        if (estimated := estimate(found, pairs)) is not None:
            expected, certain = expected + probability * estimated.mean, certain + probability
    assert certain == pytest.approx(1.0)  # two skips leave at least one vote
    assert abs(expected - fmean(score for score in WITH_SKIPS if score is not None)) <= bound


def test_votes_on_all_pairs_are_the_mean_and_no_draw_is_left_to_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, rng = pairs_of(30), Random(1)
    scores = {pair.id: rng.choice([0.0, 0.5, 1.0]) for pair in pairs}
    left, votes, prediction = [pair.id for pair in pairs], [], Prediction(pairs)
    for seed in range(30):
        chance = dict(zip(left, informative(prediction.of(left)), strict=True))
        name = draw(chance, seed)
        votes.append(vote(name, NAMES[scores[name]], chance=chance[name]))
        prediction.learn(name, scores[name])
        left.remove(name)
    found = win_rate({"me": standing(*votes)}, pairs)
    assert not is_random(standing(*votes))
    assert found.mean == pytest.approx(fmean(scores.values()), abs=0.02)
    plain = wilson(fmean(scores.values()), 30)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.05)


def test_random_votes_have_the_interval_of_wilson() -> None:
    pairs = pairs_of(50)
    found = win_rate({"me": random_votes(pairs, "aaaaaaabbb")}, pairs)
    assert (found.mean, found.low, found.high) == pytest.approx((0.7, 0.3968, 0.8922), abs=1e-4)
    assert found.count == pytest.approx(10)


def test_ties_count_half_and_skips_nothing() -> None:
    pairs = pairs_of(50)
    assert win_rate({"me": random_votes(pairs, "aatbs")}, pairs).mean == pytest.approx(2.5 / 4)


def test_identical_pairs_are_ties_that_are_known() -> None:
    pairs = (*pairs_of(30), *with_ids(Row(f"same {n}", "x", "x", None) for n in range(10)))
    found = win_rate({"me": random_votes(pairs_of(30), "aaaaaaaaab")}, pairs)
    assert found.mean == pytest.approx(0.25 * 0.5 + 0.75 * 0.9)
    all_voted = win_rate({"me": random_votes(pairs_of(30), "a" * 27 + "bbb")}, pairs)
    assert all_voted.high - all_voted.low < found.high - found.low


def test_raters_weigh_alike() -> None:
    pairs = pairs_of(50)
    one, two = random_votes(pairs, "aaaa", "anna"), random_votes(pairs, "bb", "ben")
    both = win_rate({"anna": one, "ben": two}, pairs)
    assert both.mean == pytest.approx(0.5)


def test_two_who_say_the_same_on_the_same_pairs_do_not_make_more_pairs() -> None:
    pairs = pairs_of(10)
    one = win_rate({"anna": random_votes(pairs, "aaaaaaabbb")}, pairs)
    two = win_rate({n: random_votes(pairs, "aaaaaaabbb", n) for n in ("anna", "ben")}, pairs)
    assert (two.low, two.high) == pytest.approx((one.low, one.high))


def test_without_votes_nothing_is_known() -> None:
    found = win_rate({}, pairs_of(3))
    assert (math.isnan(found.mean), found.low, found.high, found.count) == (True, 0.0, 1.0, 0)


def test_agreement_with_the_reward_by_hand() -> None:
    """Even pairs prefer a, odd ones b; the last pair has equal rewards and does not count."""
    pairs = (*pairs_of(4), *with_ids([Row("equal", "x", "y", (1.0, 1.0))]))
    found = reward_agreement({"me": random_votes(pairs, "abata")}, pairs)
    assert found is not None
    assert found.mean == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    assert reward_agreement({"me": random_votes(pairs_of(3, rewards=False), "aba")}, pairs_of(3, rewards=False)) is None


def test_agreement_is_unbiased_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf_cli.feedback.choice.EVERY", 1)
    pairs = with_ids(Row(f"{n}", "x", "yy", (reward, 0.0)) for n, reward in enumerate([4.0, 0.1, -3.0, 0.0, 5.0]))
    scores = dict(zip([pair.id for pair in pairs], [1.0, 0.0, 1.0, 0.0, 1.0], strict=True))
    expected = 0.0
    signs = {pair.id: sign for pair, sign in zip(pairs, [1, 1, -1, 0, 1], strict=True)}
    for probability, found in drawn_in_every_way(pairs, scores, 3):
        # agreement of a way without a vote on a pair of unequal rewards would be unknown; three draws always have one
        estimated = estimate(found, pairs, signs)
        assert estimated is not None
        expected += probability * estimated.mean
    assert expected == pytest.approx((1 + 0 + 0 + 1) / 4, abs=1e-12)


@pytest.mark.parametrize("choose", ["random", "informative"])
def test_intervals_cover(choose: str) -> None:
    """Of the share by which votes are made; scripts/benchmark/informative.py has the figures."""
    covered, worlds = 0, 40
    law = 0.5  # reward differences are symmetric
    for seed in range(worlds):
        rng = Random(seed)
        pairs = with_ids(Row(f"{n}", "x", "y", (rng.gauss(0, 1), 0.0)) for n in range(50))
        left, votes, prediction = [pair.id for pair in pairs], [], Prediction(pairs)
        gap = {pair.id: pair.rewards[0] for pair in pairs if pair.rewards}
        for _ in range(25):
            shares = [1 / len(left)] * len(left) if choose == "random" else informative(prediction.of(left))
            chance = dict(zip(left, shares, strict=True))
            name = draw(chance, rng.getrandbits(40))
            score = float(rng.random() < 1 / (1 + math.exp(-3 * gap[name])))
            votes.append(vote(name, NAMES[score], chance=chance[name]))
            prediction.learn(name, score)
            left.remove(name)
        found = win_rate({"me": standing(*votes)}, pairs)
        covered += found.low <= law <= found.high
    assert covered / worlds >= 0.86  # 0.95 less 2.6 standard errors


def test_an_estimate_from_informative_votes_by_hand() -> None:
    """Three pairs of equal rewards, which are predicted at 1/2; a wins the first, b the second, the third is a tie."""
    pairs = pairs_of(3, rewards=False)
    votes = [
        vote(pair, what, chance=q) for pair, what, q in zip(pairs, ("a", "b", "tie"), (0.4, 0.7, 1.0), strict=True)
    ]
    z = [(1.5 + 0.5 / 0.4) / 3, (1 + 1.0 - 0.5 / 0.7) / 3, (1 + 0.5) / 3]
    w = [(1 / 9) / (49 / 36), (1 / 4) / (49 / 36), 1 / (49 / 36)]
    mean = w[0] * z[0] + w[1] * z[1] + w[2] * z[2]
    variance = 1.5 * sum((a * (b - mean)) ** 2 for a, b in zip(w, z, strict=True))
    found = estimate(standing(*votes), pairs)
    assert found is not None
    assert (found.count, found.size) == (3, 3)
    assert (found.mean, found.variance) == pytest.approx((mean, variance))
    assert found.quantile == pytest.approx(4.302652730)  # Student's t of two degrees of freedom
    two = estimate(standing(*votes[:2]), pairs)
    assert two is not None
    w = [4 / 13, 9 / 13]
    mean = w[0] * z[0] + w[1] * z[1]
    assert two.mean == pytest.approx(mean)
    assert two.variance == pytest.approx(2 * sum((a * (b - mean)) ** 2 for a, b in zip(w, z, strict=False)))
    assert two.quantile == pytest.approx(12.706204736)
    one = estimate(standing(vote(pairs[0], "a", chance=0.4)), pairs)
    assert one is not None
    # a share of one vote is drawn to 1/2 by four: (1 + 2) / 5
    assert (one.mean, one.variance) == pytest.approx((1.0, 0.6 * 0.4 * (1 - 1 / 3)))
    assert one.quantile == pytest.approx(1.959963985)


def test_a_draw_beside_a_pair_that_is_skipped_later_by_hand() -> None:
    """The random draw of three was one of two; the informative one of two had no other pair but the skipped one."""
    pairs = with_ids(Row(f"{n}", "x", "y", (reward, 0.0)) for n, reward in enumerate([4.0, 0.5, -3.0]))
    votes = zip((pairs[0], pairs[2], pairs[1]), ("b", "a", "skip"), (1 / 3, 0.3, 1.0), strict=True)
    found = estimate(standing(*(vote(pair, what, chance=q) for pair, what, q in votes)), pairs)
    assert found is not None
    first, skipped, third = Prediction(pairs).of([pair.id for pair in pairs])
    chance = 0.3 / (1 - informative([skipped, third])[0])
    assert chance < 1
    z = [(first + third + (0 - first) / 0.5) / 2, (0 + third + (1 - third) / chance) / 2]
    assert found.mean == pytest.approx(0.2 * z[0] + 0.8 * z[1])
    assert (found.count, found.size) == (2, 3)


def test_votes_on_other_pairs_do_not_count() -> None:
    """A file may have lost a pair since; and an identical pair is a tie, whatever was voted."""
    pairs = pairs_of(4)
    found = estimate(standing(vote("gone", "b"), vote(pairs[0], "a"), vote(pairs[1], "a")), pairs[:2])
    assert found is not None
    assert (found.mean, found.count, found.size) == (1.0, 2, 2)
    assert estimate(standing(vote("gone", "b")), pairs) is None


def test_raters_and_ties_by_nature_are_combined_by_hand() -> None:
    """Thirty pairs with votes and ten that are identical: differ = 3/4, mean 0.6 of 15 votes a rater."""
    one, other = Estimated(0.7, 0.01, 10, 30, 1.96), Estimated(0.5, 0.02, 20, 30, 2.1)
    drawn = (15 * 0.6 + 2) / 19
    among = 0.75 * drawn * (1 - drawn) + 0.75 * 0.25 * 0.1**2
    variance = 0.75**2 * 0.03 / 4 + among / 40
    whole = 0.125 + 0.75 * 0.6
    of_whole = (15 * whole + 2) / 19
    expected = wilson(whole, of_whole * (1 - of_whole) / variance, 2.1)
    found = combine([one, other], same=10)
    assert (found.mean, found.low, found.high, found.count) == pytest.approx(
        (expected.mean, expected.low, expected.high, expected.count)
    )


@pytest.mark.parametrize(("mean", "share"), [(1.25, 1.0), (-0.25, 0.0)])
def test_an_estimate_beyond_a_share_is_cut(mean: float, share: float) -> None:
    found = combine([Estimated(mean, 0.01, 10, 30, 1.96)], same=0)
    assert found.mean == share
    assert 0.0 <= found.low <= found.high <= 1.0


@pytest.mark.parametrize(
    ("chances", "is_one"),
    [([1.0, 0.5, 1 / 3], True), ([0.1 + 1e-12], True), ([0.5, 0.4], False), ([0.1 + 1e-9], False), ([], True)],
)
def test_random_votes_have_chances_of_one_in_a_whole_number(chances: list[float], is_one: bool) -> None:
    assert is_random(standing(*(vote(f"{n}", "a", chance=chance) for n, chance in enumerate(chances)))) == is_one
