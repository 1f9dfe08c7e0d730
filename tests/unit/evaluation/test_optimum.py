"""evaluation.optimum: against problems whose every completion can be counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.evaluation import optimum as module
from rlhf_cli.evaluation.optimum import (
    Draw,
    Optimum,
    PromptDraws,
    at_least,
    frontier,
    log_z,
    optimum,
    progress_to_optimum,
    unknown,
)
from rlhf_cli.evaluation.tilt import tilt

BETA = 0.05


def draws(rewards: Sequence[float], logprobs: Sequence[float], ref_logprobs: Sequence[float]) -> list[Draw]:
    return list(map(Draw, rewards, logprobs, ref_logprobs))


NOTHING = draws((), (), ())


@dataclass(frozen=True)
class Counted:
    """A prompt with every completion it has: probabilities under the reference, and rewards."""

    ref: Sequence[float]
    reward: Sequence[float]

    def log_z(self, beta: float = BETA) -> float:
        return math.log(sum(q * math.exp(r / beta) for q, r in zip(self.ref, self.reward, strict=True)))

    def tilted(self, beta: float = BETA) -> list[float]:
        """pi* at beta."""
        z = math.exp(self.log_z(beta))
        return [q * math.exp(r / beta) / z for q, r in zip(self.ref, self.reward, strict=True)]

    def kl(self, pi: Sequence[float]) -> float:
        return sum(p * math.log(p / q) for p, q in zip(pi, self.ref, strict=True) if p)

    def mean(self, pi: Sequence[float]) -> float:
        return sum(p * r for p, r in zip(pi, self.reward, strict=True))

    def gain(self, pi: Sequence[float], beta: float = BETA) -> float:
        return self.mean(pi) - beta * self.kl(pi) - self.mean(self.ref)

    def gap(self, beta: float = BETA) -> float:
        return beta * self.log_z(beta) - self.mean(self.ref)

    def draws(self, rows: Sequence[int], pi: Sequence[float]) -> list[Draw]:
        return [Draw(self.reward[i], math.log(pi[i]), math.log(self.ref[i])) for i in rows]

    def sampled(self, source: Random, n: int, m: int, pi: Sequence[float]) -> PromptDraws:
        """n samples of the reference, m of pi."""
        kinds = range(len(self.ref))
        of_ref, of_pi = source.choices(kinds, self.ref, k=n), source.choices(kinds, pi, k=m)
        return PromptDraws(self.draws(of_ref, pi), self.draws(of_pi, pi), self.kl(pi))


def counted(prompts: int, completions: int = 30, deviation: float = 0.25, first: int = 0) -> list[Counted]:
    """Prompts of `completions` each: log-normal probabilities, normal rewards cut at 1 whose mean differs by prompt."""
    found = []
    for prompt in range(first, first + prompts):
        source = Random(prompt)
        weights = [math.exp(1.5 * source.gauss(0, 1)) for _ in range(completions)]
        reward = [min(deviation * source.gauss(0, 1) + 0.1 * (prompt % 4), 1.0) for _ in range(completions)]
        found.append(Counted([weight / sum(weights) for weight in weights], reward))
    return found


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (1, 2), (3, 0), (0, 2)])
def test_z_is_unbiased_over_every_draw_there_is(n: int, m: int) -> None:
    problem = counted(1, completions=4)[0]
    pi = problem.tilted(3 * BETA)
    expected, expected_log = 0.0, 0.0
    for rows in product(range(4), repeat=n + m):
        chance = math.prod(problem.ref[i] for i in rows[:n]) * math.prod(pi[i] for i in rows[n:])
        value = log_z(problem.draws(rows[:n], pi), problem.draws(rows[n:], pi), BETA)
        expected += chance * math.exp(value)
        expected_log += chance * value
    assert expected == pytest.approx(math.exp(problem.log_z()), rel=1e-9)
    assert expected_log < problem.log_z() - 1e-3  # and the logarithm is low


def biases(n: int, m: int, times: int) -> tuple[float, float]:
    """The bias of J* in shares of the gap, and its standard error, where the policy has 89 % of the gap."""
    source, problems = Random(1), counted(4)
    errors = []
    for _ in range(times):
        prompts = [p.sampled(source, n, m, p.tilted(2 * BETA)) for p in problems]
        values = [log_z(d.reference, d.policy, BETA) - p.log_z() for d, p in zip(prompts, problems, strict=True)]
        errors.append(BETA * fmean(values) / fmean(p.gap() for p in problems))
    return fmean(errors), stdev(errors) / math.sqrt(times)


def test_the_mixture_has_little_of_the_bias_of_the_reference_alone() -> None:
    problems = counted(4)
    assert fmean(p.kl(p.tilted()) for p in problems) == pytest.approx(3.34, abs=0.01)  # KL*, about log 28
    truth = fmean(p.gain(p.tilted(2 * BETA)) for p in problems) / fmean(p.gap() for p in problems)
    assert truth == pytest.approx(0.892, abs=0.001)
    alone, alone_error = biases(16, 0, 300)
    both, both_error = biases(16, 16, 300)
    # J* -20.2 % and -0.75 % of the gap: 89.2 % reads 111.7 % (+22 points), and 89.9 % (+0.7 points)
    assert alone == pytest.approx(-0.202, abs=4 * alone_error)
    assert both == pytest.approx(-0.0075, abs=4 * both_error)
    assert alone_error < 0.01
    assert both_error < 0.002
    assert truth / (1 + alone) - truth > 0.16
    assert truth / (1 + both) - truth < 0.01


def everything(problem: Counted, pi: Sequence[float], copies: int = 200) -> PromptDraws:
    """Samples in exact proportion to their probabilities, which are multiples of 1 / copies."""
    rows = [i for i, q in enumerate(problem.ref) for _ in range(round(q * copies))]
    of_pi = [i for i, p in enumerate(pi) for _ in range(round(p * copies))]
    # Shuffled, so that both halves are alike.
    Random(0).shuffle(rows)
    Random(1).shuffle(of_pi)
    return PromptDraws(problem.draws(rows, pi), problem.draws(of_pi, pi), problem.kl(pi))


def half_and_half(share: float, offset: float) -> tuple[Counted, list[float]]:
    """Two completions, pi* = (share, 1 - share) against a reference of (1/2, 1/2), at beta 1: r = log of the ratio."""
    problem = Counted([0.5, 0.5], [math.log(2 * share) + offset, math.log(2 * (1 - share)) + offset])
    return problem, [share, 1 - share]


SHARES = (0.8, 0.85, 0.9, 0.75)
"""pi* of four prompts."""


@pytest.mark.parametrize("offset", [0.0, -5.0, 100.0])
def test_the_percentage_of_known_policies_whatever_the_rewards_are_shifted_by(offset: float) -> None:
    problems = [half_and_half(share, offset) for share in SHARES]
    for problem, star in problems:
        assert problem.tilted(1.0) == pytest.approx(star)
        assert problem.log_z(1.0) == pytest.approx(offset)
    at_optimum = optimum([everything(problem, star) for problem, star in problems], 1.0, math.inf)
    assert at_optimum.percent == pytest.approx(100.0)
    assert (at_optimum.low, at_optimum.high) == (pytest.approx(100.0), pytest.approx(100.0))
    at_reference = optimum([everything(problem, problem.ref) for problem, _ in problems], 1.0, math.inf)
    assert at_reference.percent == pytest.approx(0.0, abs=1e-9)
    away = optimum([everything(problem, star[::-1]) for problem, star in problems], 1.0, math.inf)
    gap = fmean(problem.gap(1.0) for problem, _ in problems)
    assert away.percent is not None
    assert away.percent < -100
    assert away.percent == pytest.approx(100 * fmean(p.gain(s[::-1], 1.0) for p, s in problems) / gap)
    assert [found.reason for found in (at_optimum, at_reference, away)] == [""] * 3


def test_it_is_one_less_the_share_of_the_kl_to_the_optimum_that_is_left() -> None:
    problems = counted(3)
    for problem in problems:
        pi, star = problem.tilted(2 * BETA), problem.tilted()
        left = Counted(star, problem.reward)
        assert problem.gain(pi) / problem.gap() == pytest.approx(1 - left.kl(pi) / left.kl(problem.ref))


def sampled(
    problems: Sequence[Counted], *, beta: float, n: int, policy_beta: float | None = None
) -> tuple[list[PromptDraws], list[list[float]]]:
    source = Random(2)
    policies = [p.tilted(policy_beta or 2 * beta) for p in problems]
    return [p.sampled(source, n, n, pi) for p, pi in zip(problems, policies, strict=True)], policies


def test_a_problem_within_reach_of_its_samples_has_its_percentage_inside_the_interval() -> None:
    problems = counted(24)
    beta = 0.3
    drawn, policies = sampled(problems, beta=beta, n=256)
    found = optimum(drawn, beta, 1.0)
    truth = fmean(p.gain(pi, beta) for p, pi in zip(problems, policies, strict=True))
    truth_percent = 100 * truth / fmean(p.gap(beta) for p in problems)
    assert found.reason == ""
    assert found.percent is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < truth_percent < found.high
    assert found.low < found.percent < found.high < 99  # an interval of its own, not what any percentage has
    assert found.high - found.low < 40
    assert found.gain == pytest.approx(truth, abs=0.02)
    base = fmean(fmean(draw.reward for draw in d.reference) for d in drawn)
    assert found.bound == pytest.approx(100 * found.gain / (1.0 - base))
    assert found.bound < found.percent
    assert optimum(drawn, beta, 1.0) == found  # the seed of the bootstrap is fixed
    assert optimum(drawn, beta, math.inf).bound is None


def test_pooled_prompts_would_overstate_the_optimum() -> None:
    problems = counted(24)
    pooled = BETA * math.log(fmean(math.exp(p.log_z()) for p in problems))
    gap = fmean(p.gap() for p in problems)
    assert pooled - BETA * fmean(p.log_z() for p in problems) > 0.1 * gap
    drawn, _ = sampled(problems, beta=BETA, n=64)
    ours = BETA * fmean(log_z(d.reference, d.policy, BETA) for d in drawn)
    assert ours == pytest.approx(BETA * fmean(p.log_z() for p in problems), abs=0.02 * gap)


class TestRefusals:
    """What keeps the percentage from being printed."""

    def test_too_few_samples(self) -> None:
        drawn, _ = sampled(counted(4), beta=3.0, n=20)
        found = optimum(drawn, 3.0, 1.0)
        assert (found.percent, found.low, found.high) == (None, None, None)
        assert found.reason == "needs at least 21 samples a prompt (got 20)"
        assert found.gain is not None
        assert found.bound is not None
        drawn, _ = sampled(counted(4), beta=3.0, n=21)
        assert "needs" not in optimum(drawn, 3.0, 1.0).reason

    def test_an_optimum_that_the_samples_cannot_have_seen(self) -> None:
        drawn, _ = sampled(counted(4), beta=BETA, n=64)  # KL* is 3.34, and log 64 only 4.16
        found = optimum(drawn, BETA, 1.0)
        assert found.percent is None
        assert found.reason == "too few samples: log n - KL* >= 3 for 25 % of the prompts, not 90 %"

    @pytest.mark.parametrize(("hard", "refused"), [(1, False), (2, True)])
    def test_nine_prompts_of_ten_have_to_keep_the_margin(self, hard: int, refused: bool) -> None:
        # At a small beta log n - KL* is log of how many score: log 15 = 2.7, log 30 = 3.4
        rewards = [[1.0, 0.0, 0.0] * 15] * hard + [[1.0, 0.0, 1.0] * 15] * (10 - hard)
        share = f"{10 * (10 - hard)} % of the prompts"
        assert (share in frontier(rewards, 0.01).reason) == refused

    def test_an_estimate_that_still_grows(self) -> None:
        # One policy sample that beats all others, far from what the reference writes: it is in one half alone.
        reference = draws([0.0, 0.01] * 32, [-50.0] * 64, [-3.0] * 64)
        policy = draws([0.0] * 63 + [1.0], [-3.0] * 64, [-9.0] * 64)
        found = optimum([PromptDraws(reference, policy, 6.0)] * 4, 0.1, math.inf)
        assert found.percent is None
        assert found.reason.startswith("too few samples: doubling them moved J* by ")
        assert found.reason.endswith(" % of the gap, more than 2 %")

    def test_a_gap_that_may_be_nothing(self) -> None:
        same = draws([0.5] * 32, [-3.0] * 32, [-3.0] * 32)
        found = optimum([PromptDraws(same, same, 0.0)] * 4, 0.1, 0.5)
        assert found.percent is None
        assert found.reason == "the gap J* - J_ref is not clear of 0 (interval from 0)"
        assert found.bound is None  # the reference is at the highest reward already

    def test_a_gap_with_both_signs(self) -> None:
        # Z = (e + 1) / 2 everywhere, J* = .5 log Z = .31: gaps -.19, .31, .31; 1 resample in 27 is the first alone
        lucky = PromptDraws(draws([0.5] * 32, [-3.0] * 32, [-3.0] * 32), draws([0.0] * 32, [-3.0] * 32, [-3.0] * 32), 0)
        other = PromptDraws(draws([0.0] * 32, [-3.0] * 32, [-3.0] * 32), draws([0.5] * 32, [-3.0] * 32, [-3.0] * 32), 0)
        found = optimum([lucky, other, other], 0.5, math.inf)
        assert found.reason == "the gap J* - J_ref is not clear of 0 (interval from -0.19)"

    def test_a_reason_from_outside(self) -> None:
        found = unknown("beta is 0", 0.25, 30.0)
        assert (found.percent, found.reason, found.gain, found.bound) == (None, "beta is 0", 0.25, 30.0)


def test_a_percentage_with_a_wide_interval_is_not_printed() -> None:
    """Two prompts at the optimum and two far below the reference: the mean of four says nothing."""
    problems = [half_and_half(share, 0.0) for share in SHARES]
    policies = [star if place % 2 else star[::-1] for place, (_, star) in enumerate(problems)]
    drawn = [everything(problem, policy) for (problem, _), policy in zip(problems, policies, strict=True)]
    found = optimum(drawn, 1.0, math.inf)
    assert (found.percent, found.low, found.high) == (None, None, None)
    assert found.reason == "its 95 % interval spans more than 50 percentage points"
    assert found.gain is not None


def test_the_limit_of_the_interval_s_width(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, _ = sampled(counted(24), beta=0.3, n=256)
    found = optimum(drawn, 0.3, 1.0)
    assert found.low is not None
    assert found.high is not None
    half = (found.high - found.low) / 2
    monkeypatch.setattr(module, "WIDEST", 1.01 * half)
    assert optimum(drawn, 0.3, 1.0) == found
    monkeypatch.setattr(module, "WIDEST", 0.99 * half)
    assert optimum(drawn, 0.3, 1.0).reason.startswith("its 95 % interval spans more than ")


def test_the_standard_errors_are_the_spread_of_the_estimates() -> None:
    """By a thousand draws of 64 samples; the first order is off by some per cent."""
    source, rewards = Random(3), [0.0, 0.2, 0.5, 1.0]
    drawn = [tilt(source.choices(rewards, [4, 3, 2, 1], k=64), 0.4) for _ in range(1000)]
    for value, error in (("log_z", "log_z_se"), ("reward", "reward_se"), ("kl", "kl_se")):
        spread = stdev(getattr(one, value) for one in drawn)
        assert fmean(getattr(one, error) for one in drawn) == pytest.approx(spread, rel=0.08), value


def test_the_errors_of_the_frontier_are_those_of_a_mean_over_its_prompts() -> None:
    rewards = [[0.0, 0.0, 1.0, 0.5], [0.2, 0.4, 0.9, 0.1], [0.3, 0.3, 0.6, 0.0]]
    point, each = frontier(rewards, 0.5), [tilt(values, 0.5) for values in rewards]
    assert point.optimum_se == pytest.approx(0.5 * math.sqrt(sum(one.log_z_se**2 for one in each)) / 3)
    assert point.reward_se == pytest.approx(math.sqrt(sum(one.reward_se**2 for one in each)) / 3)
    assert point.kl_se == pytest.approx(math.sqrt(sum(one.kl_se**2 for one in each)) / 3)
    # weights 1, 1, e^2, e: their sd over their mean and the root of 4
    weights = [1, 1, math.exp(2), math.exp(1)]
    assert each[0].log_z_se == pytest.approx(stdev(weights) / fmean(weights) / 2)


def test_a_resample_without_a_gap_is_beyond_every_bound() -> None:
    assert (module._share(0.1, 0.0), module._share(-0.1, -0.2)) == (math.inf, -math.inf)
    assert module._share(0.1, 0.4) == 0.25


def test_the_ends_of_an_interval() -> None:
    # 2.5 and 97.5 % of the way from place 0 to place 1999: 49.975 and 1949.025
    assert module._ends([float(i) for i in range(2000)]) == (50.0, 1949.0)


def test_a_gap_of_rounding_is_shown_as_zero() -> None:
    """beta log Z less the reward is a rounding error here, of either sign."""
    for reward in (0.1, 0.2, 0.3, 0.6, 0.7, 1.1):
        for beta in (0.05, 0.07, 0.3):
            found = frontier([[reward] * 32] * 3, beta)
            assert found.reason == "the gap J* - J_ref is not clear of 0 (interval from 0)"


def test_the_prompt_with_the_fewest_samples_counts() -> None:
    assert frontier([[0.0, 1.0] * 16, [0.0, 1.0] * 10], 1.0).reason == "needs at least 21 samples a prompt (got 20)"


def test_what_resampling_gives_is_the_spread_of_a_mean() -> None:
    values = [float(i) for i in range(30)]
    means = [mean for (mean,) in module._resampled(values)]
    assert len(means) == 2000
    # The plug-in deviation of a mean of 30: sqrt((30^2 - 1) / 12 / 30) = 1.58
    assert stdev(means) == pytest.approx(1.58, rel=0.1)
    low, high = module._ends(sorted(means))
    assert (low, high) == (pytest.approx(14.5 - 3.1, abs=0.4), pytest.approx(14.5 + 3.1, abs=0.4))
    assert all(a == b for a, b in module._resampled(values, values))  # one prompt, all its terms


class TestTilt:
    """The optimum from samples of the reference alone."""

    def test_by_hand(self) -> None:
        # Rewards 0, 0, 0, beta log 9: weights 1, 1, 1, 9 of 12, Z = 12/4 = 3
        found = tilt([0.0, 0.0, 0.0, 0.5 * math.log(9)], 0.5)
        assert found.log_z == pytest.approx(math.log(3))
        assert found.reward == pytest.approx(0.75 * 0.5 * math.log(9))
        assert found.kl == pytest.approx(0.75 * math.log(3) + 0.25 * math.log(1 / 3))
        assert found.effective == pytest.approx(144 / 84)

    @given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.floats(1e-4, 100))
    def test_its_kl_never_leaves_what_the_samples_can_show(self, rewards: list[float], beta: float) -> None:
        found = tilt(rewards, beta)
        assert -1e-9 <= found.kl <= math.log(len(rewards)) + 1e-9
        assert 1 - 1e-9 <= found.effective <= len(rewards) * (1 + 1e-9)
        assert min(rewards) - 1e-9 <= found.reward <= max(rewards) + 1e-9
        assert found.log_z == pytest.approx(log_z(draws(rewards, rewards, rewards), NOTHING, beta))

    def test_the_errors_of_two_samples_are_known_and_of_one_are_not(self) -> None:
        # weights 1 and 3: mean 2, sd sqrt(2), over 2 and the root of 2; shares 1/4 and 3/4 of rewards 0 and log 3
        found = tilt([0.0, math.log(3)], 1.0)
        assert found.log_z_se == pytest.approx(1 / 2)
        assert found.reward_se == pytest.approx(3 / 16 * math.log(3) * 2)
        alone = tilt([0.5], 1.0)
        assert (alone.log_z_se, alone.reward_se, alone.kl_se) == (math.inf, math.inf, math.inf)

    def test_a_vanishing_beta_does_not_overflow(self) -> None:
        found = tilt([1.0, -1.0], 1e-9)
        assert (found.reward, found.effective) == (1.0, 1.0)
        assert found.kl == pytest.approx(math.log(2))


class TestFrontier:
    """The means over prompts, and whether they can be trusted."""

    def test_by_hand(self) -> None:
        # Z = 3 as above, and a prompt of equal rewards: Z = e^(2/.5), KL 0, all four weights equal
        rewards = [[0.0, 0.0, 0.0, 0.5 * math.log(9)], [2.0] * 4]
        found = frontier(rewards, 0.5)
        assert found.beta == 0.5
        assert found.reference == pytest.approx((0.125 * math.log(9) + 2) / 2)
        assert found.optimum == pytest.approx((0.5 * math.log(3) + 2) / 2)
        assert found.reward == pytest.approx((0.375 * math.log(9) + 2) / 2)
        assert found.kl == pytest.approx(tilt(rewards[0], 0.5).kl / 2)
        assert found.effective == pytest.approx((144 / 84 + 4) / 2)
        assert found.least_effective == pytest.approx(144 / 84)
        assert found.reason == "needs at least 21 samples a prompt (got 4)"

    def test_what_doubling_the_samples_moved(self) -> None:
        # One completion of 64 scores 1, the others 0, at four prompts; beta .3
        top = math.exp(1 / 0.3)
        whole, half = 0.3 * math.log((top + 63) / 64), 0.3 * math.log((top + 31) / 32) / 2  # the other half has J* = 0
        found = frontier([[1.0] + [0.0] * 63] * 4, 0.3)
        assert found.optimum == pytest.approx(whole)
        moved = 100 * (whole - half) / (whole - 1 / 64)
        assert found.reason == (f"too few samples: doubling them moved J* by {moved:.1f} % of the gap, more than 2 %")

    def test_a_large_beta_can_be_trusted_and_a_small_one_cannot(self) -> None:
        source, problems = Random(0), counted(12)
        rewards = [[draw.reward for draw in p.sampled(source, 256, 0, p.ref).reference] for p in problems]
        assert frontier(rewards, 0.5).reason == ""
        assert frontier(rewards, 0.5).optimum == pytest.approx(fmean(0.5 * p.log_z(0.5) for p in problems), abs=0.01)
        assert "too few samples" in frontier(rewards, 0.01).reason

    def test_the_reward_and_the_kl_rise_as_beta_falls(self) -> None:
        source, problems = Random(0), counted(4)
        rewards = [[draw.reward for draw in p.sampled(source, 64, 0, p.ref).reference] for p in problems]
        points = [frontier(rewards, beta) for beta in (1.0, 0.3, 0.1, 0.03)]
        assert [p.kl for p in points] == sorted(p.kl for p in points)
        assert [p.reward for p in points] == sorted(p.reward for p in points)
        assert all(p.optimum == pytest.approx(p.reward - p.beta * p.kl) for p in points)


def test_the_bound() -> None:
    assert at_least(0.3, 0.4, 1.0) == pytest.approx(50.0)
    assert at_least(-0.3, 0.4, 1.0) == pytest.approx(-50.0)
    assert at_least(0.3, 0.4, math.inf) is None
    assert at_least(0.0, 1.0, 1.0) is None


HAS = "Of the largest possible gain in J, this policy has"
UNKNOWN = "How much of the largest possible gain in J this policy has is not known: beta is 0"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            Optimum(62.6, 54.9, 71.2, "", 0.3, 27.8),
            f"{HAS} about 63 % (95 % interval 55 to 71), and at least 28 %",
        ),
        (Optimum(-0.3, -12.0, -0.4, "", -0.1, -5.0), f"{HAS} about 0 % (95 % interval -12 to 0)"),
        (Optimum(40.0, 30.0, 50.0, "", 0.1, None), f"{HAS} about 40 % (95 % interval 30 to 50)"),
        (unknown("beta is 0", 0.3, 27.8), f"{HAS} at least 28 %; no closer estimate: beta is 0"),
        (unknown("beta is 0", -0.3, -27.8), UNKNOWN),
        (unknown("beta is 0", 0.0, 0.0), UNKNOWN),  # at least nothing says nothing
        (unknown("beta is 0", 0.01, 0.6), f"{HAS} at least 1 %; no closer estimate: beta is 0"),
        (unknown("beta is 0"), UNKNOWN),
    ],
)
def test_the_progress_in_words(found: Optimum, said: str) -> None:
    assert progress_to_optimum(found) == said
