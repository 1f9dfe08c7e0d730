"""Prompts are drawn by what is left to gain, and the expected gradient stays that of all prompts alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations_with_replacement, pairwise
from math import factorial, prod
from statistics import fmean

import pytest
import torch
from torch import Tensor

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.algorithms.reinforce import Reinforce
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.data.order import PartSize
from rlhf_cli.engine.tabular import TabularEngine
from rlhf_cli.prompts.headroom import BLOCK, FLOOR, MEMORY, POWER, PRIORS, Headroom, block_of, systematic
from rlhf_cli.ranks.gradient import accumulate_gradient
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import PromptBatch
from tests.unit.algorithms.enumerated import BETA, NOTHING, REFERENCE, SCORES, logprobs, picked, random
from tests.unit.support import scored_by

PRIOR = PRIORS[0]
FOUR = (PartSize("", 1.0, 4),)


def test_the_chances_by_hand() -> None:
    shown = Headroom({0: 1.0, 2: 3.0}, {0: 4.0, 2: 0.0})
    typical = (4 / 1 + 0 / 3) / 2  # of two prompts
    variances = [
        (4 + PRIOR * typical) / (1 + PRIOR),
        typical,  # never drawn
        PRIOR**3 * typical / (3 + PRIOR**3),
        typical,
    ]
    gains = [math.sqrt(variance) ** POWER for variance in variances]
    found = shown.chances(FOUR)
    assert [p for p, _ in found] == [0.25] * 4
    assert [q for _, q in found] == pytest.approx([(1 - FLOOR) * gain / sum(gains) + FLOOR / 4 for gain in gains])
    assert sum(q for _, q in found) == pytest.approx(1)
    assert min(q / p for p, q in found) > FLOOR


def test_the_typical_variance_is_the_mean_of_the_prompts() -> None:
    assert Headroom().typical() == 0.0
    assert Headroom({3: 2.0}, {3: 5.0}).typical() == 2.5
    assert Headroom({3: 2.0, 4: 1.0}, {3: 5.0, 4: 1.5}).typical() == 2.0  # 2.5 and 1.5


def test_the_constants_are_those_of_the_docs() -> None:
    assert (FLOOR, MEMORY, POWER, BLOCK, PRIORS) == (0.1, 0.95, 0.75, 8, (0.3, 1.0))


def test_a_part_has_its_share_of_the_objective_and_not_of_the_rows() -> None:
    parts = (PartSize("a", 3.0, 2), PartSize("b", 1.0, 4))
    assert [p for p, _ in Headroom().chances(parts)] == pytest.approx([3 / 8, 3 / 8, *[1 / 16] * 4])
    one = Headroom({number: 1.0 for number in range(6)}, {number: 2.0 for number in range(6)})
    for p, q in one.chances(parts):
        assert q == pytest.approx(p)  # alike in variance


def test_without_any_variance_prompts_without_a_group_come_first() -> None:
    shown = Headroom({0: 1.0, 1: 1.0}, {0: 0.0, 1: 0.0}).chances(FOUR)
    least = math.sqrt(PRIOR / (1 + PRIOR)) ** POWER
    gains = [least, least, 1, 1]
    assert [q for _, q in shown] == pytest.approx([(1 - FLOOR) * gain / sum(gains) + FLOOR / 4 for gain in gains])
    every = Headroom(dict.fromkeys(range(4), 1.0), dict.fromkeys(range(4), 0.0))
    assert [q for _, q in every.chances(FOUR)] == pytest.approx([0.25] * 4)


def test_estimates_of_prompts_that_are_gone_are_no_error() -> None:
    shown = Headroom({0: 1.0, 9: 1.0}, {0: 1.0, 9: 1.0})
    assert {number for step in range(20) for number, _ in shown.draw(FOUR, 3, seed=0, step=step)} == {0, 1, 2, 3}


def test_a_group_counts_less_with_every_later_one_of_its_prompt() -> None:
    shown = Headroom().observe([(5, 2.0, 1.0), (5, 4.0, 1.0), (1, 0.5, 1.0)], BLOCK)
    assert shown.groups == {5: 1 + MEMORY, 1: 1.0}
    assert shown.variances == {5: 4.0 + MEMORY * 2.0, 1: 0.5}
    assert shown.observe([], 2 * BLOCK) == shown


def test_blocks_grow_to_their_length() -> None:
    assert [block_of(step) for step in range(26)] == [0, 1, 2, 2, *[4] * 4, *[8] * 8, *[16] * 8, 24, 24]


def test_groups_count_from_the_next_block_on() -> None:
    """The steps of a block have one set of chances, so that together they are one draw."""
    before = Headroom({0: 1.0}, {0: 2.0})
    middle = before.observe([(1, 0.0, 1.0)], 2 * BLOCK - 1)
    assert (middle.chances(FOUR), middle.waiting) == (before.chances(FOUR), ((1, 0.0, 1.0),))
    after = middle.observe([(0, 4.0, 0.5)], 2 * BLOCK)
    assert (after.groups, after.variances) == ({0: 1 + MEMORY, 1: 1.0}, {0: 4.0 + MEMORY * 2.0, 1: 0.0})
    assert after == before.observe([(1, 0.0, 1.0), (0, 4.0, 0.5)], 2 * BLOCK)


def test_the_noise_of_each_prior_by_hand() -> None:
    """Of typical variance 1: prompt 0 had 2 in one group, prompt 1 none, and prompt 2 was never drawn."""
    shown = Headroom({0: 1.0, 1: 1.0}, {0: 2.0, 1: 0.0}).observe([(1, 0.5, 3.0), (2, 9.0, 1.0)], BLOCK)
    gains = [math.sqrt(prior / (1 + prior)) ** POWER for prior in PRIORS]
    assert shown.noise == pytest.approx([3.0 * (0.5 / gain + gain) + 9.0 + 1.0 for gain in gains])
    assert Headroom().observe([(0, 1e9, 1.0)], BLOCK).noise == (0.0,) * len(PRIORS)  # nothing to compare with


@pytest.mark.parametrize(("then", "best"), [(0.0, 0.3), (2.0, 1.0)])
def test_the_prior_is_the_one_with_the_least_noise(then: float, best: float) -> None:
    """A group without variance counts in full where its prompt stays so, and little where it does not."""
    shown = Headroom({0: 1.0, 1: 1.0}, {0: 2.0, 1: 0.0}).observe([(1, then, 1.0)] * 8, BLOCK)
    assert PRIORS[shown.noise.index(min(shown.noise))] == best
    q = shown.chances(FOUR)[1][1]
    others = [replace(shown, noise=tuple(float(prior != one) for prior in PRIORS)) for one in PRIORS]
    assert q == (min if best == min(PRIORS) else max)(other.chances(FOUR)[1][1] for other in others)


def test_chances_do_not_depend_on_the_order_of_the_estimates() -> None:
    """A checkpoint has its prompts in the order of their names, and not in that of their draws."""
    parts = (PartSize("", 1.0, 9),)
    for seed in range(20):
        numbers = torch.rand(2, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).tolist()
        grown = Headroom(*(dict(enumerate(row)) for row in numbers))
        read = Headroom(dict(reversed(grown.groups.items())), dict(reversed(grown.variances.items())))
        assert read.chances(parts) == grown.chances(parts)


def test_draws_are_a_function_of_estimates_seed_and_step() -> None:
    shown = Headroom().observe([(0, 1.0, 1.0), (1, 0.0, 1.0)] * 3, 1)
    one = shown.draw(FOUR, 2, seed=1, step=7)
    assert shown.draw(FOUR, 2, seed=1, step=7) == one
    shares = [p / q for p, q in shown.chances(FOUR)]
    assert max(shares) > 1.5 * min(shares)
    assert [weight for _, weight in one] == pytest.approx([shares[number] for number, _ in one])
    others = {shown.draw(FOUR, 2, seed=seed, step=step) for seed in range(5) for step in range(9)}
    assert len(others) > 5


def test_unseen_prompts_come_once_in_a_step_that_has_room_for_all() -> None:
    for step in range(10):
        drawn = Headroom().draw(FOUR, 4, seed=0, step=step)
        assert sorted(number for number, _ in drawn) == [0, 1, 2, 3]
        assert [weight for _, weight in drawn] == pytest.approx([1.0] * 4)


@pytest.mark.parametrize("count", [4, 8])
def test_every_part_has_its_share_of_the_draws(count: int) -> None:
    parts = (PartSize("a", 3.0, 2), PartSize("b", 1.0, 4))
    drawn = [Headroom().draw(parts, count, seed=0, step=step) for step in range(20)]
    assert [sum(number < 2 for number, _ in step) for step in drawn] == [count * 3 // 4] * 20
    assert {number for step in drawn for number, _ in step} == {*range(6)}


def starts_of(steps: int, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The starts of the systematic draws of so many steps."""
    starts: list[float] = []

    def places(chances: Sequence[float], count: int, start: float) -> list[int]:
        starts.append(start)
        return systematic(chances, count, start)

    monkeypatch.setattr("rlhf_cli.prompts.headroom.systematic", places)
    for step in range(steps):
        Headroom().draw(FOUR, 2, seed=0, step=step)
    return starts


def test_the_starts_of_the_steps_are_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = starts_of(400, monkeypatch)
    assert 0 <= min(starts) < 0.05
    assert 0.95 < max(starts) < 1
    assert 0.4 < sum(starts) / 400 < 0.6


def test_a_block_has_a_uniform_start_and_its_steps_are_spread_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    starts, spread = starts_of(16, monkeypatch), [0, 5 / 8, 2 / 8, 7 / 8, 4 / 8, 1 / 8, 6 / 8, 3 / 8]
    for block, length in ((0, 1), (1, 1), (2, 2), (4, 4), (8, 8)):
        first = seed_for(0, "headroom", block) // 2**10 / 2**53  # of 63 bits, which a float does not hold
        expected = [(first + further) % 1 for further in spread[:length]]
        assert starts[block : block + length] == pytest.approx(expected)


def test_chances_count_by_their_share_of_the_sum() -> None:
    # eighths at 1, 3, 5 and 7; the first two places have a quarter each
    assert systematic([1.0, 1.0, 2.0], 4, 0.5) == [0, 1, 2, 2]


def test_a_start_next_to_one_stays_within_the_last_place() -> None:
    # 3 + start is 4 in floating point, and so the last point is the end itself
    assert systematic([0.25] * 4, 4, math.nextafter(1.0, 0.0))[-1] == 3


def test_the_steps_of_a_block_are_one_draw() -> None:
    """Each prompt comes as often as its chance says, but for one; where all are alike, once an epoch."""
    parts = (PartSize("", 1.0, 24),)
    shown = Headroom({n: 1.0 for n in range(24)}, {n: float(n * n) for n in range(24)})
    for first in (BLOCK, 5 * BLOCK):
        steps = range(first, first + BLOCK)
        times = Counter(number for step in steps for number, _ in shown.draw(parts, 3, seed=4, step=step))
        assert all(abs(times[n] - BLOCK * 3 * q) < 1 for n, (_, q) in enumerate(shown.chances(parts)))
        assert max(times.values()) > 1
        alike = Counter(number for step in steps for number, _ in Headroom().draw(parts, 3, seed=4, step=step))
        assert alike == dict.fromkeys(range(24), 1)


@pytest.mark.parametrize("step", [0, 3, BLOCK + 5])
def test_each_step_of_a_block_draws_as_its_chances_say(step: int) -> None:
    """Over seeds; 4 standard errors."""
    shown, seeds = Headroom({0: 1.0, 1: 1.0}, {0: 4.0, 1: 0.0}), 1000
    times = Counter(number for seed in range(seeds) for number, _ in shown.draw(FOUR, 1, seed, step))
    for number, (_, q) in enumerate(shown.chances(FOUR)):
        assert times[number] / seeds == pytest.approx(q, abs=4 * math.sqrt(q * (1 - q) / seeds))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_place_comes_as_often_as_its_chance_says_over_all_starts(count: int) -> None:
    chances = [0.05, 0.4, 0.15, 0.3, 0.1]
    ends = [count * sum(chances[: n + 1]) % 1 for n in range(len(chances))]
    edges = sorted({0.0, 1.0, *ends})  # the draws change at these starts alone
    expected = [0.0] * len(chances)
    for low, high in pairwise(edges):
        if high - low > 1e-9:
            for place in systematic(chances, count, (low + high) / 2):
                expected[place] += high - low
    assert expected == pytest.approx([count * chance for chance in chances], abs=1e-9)


TABLES = torch.stack([random(4, 3, seed=seed) for seed in (4, 5, 6)])
REWARDS = torch.stack([SCORES, SCORES.flip(0) * 0.2, torch.full_like(SCORES, 2.0)])
"""A prompt with a wide spread, one with a narrow one, and one whose completions all have one score."""


def mean_objective(tables: Tensor) -> Tensor:
    """The mean of J over the three prompts, worked out from the tables alone."""
    whole = torch.stack([logprobs(table).sum(1) for table in tables])
    return (whole.exp() * (REWARDS - BETA * (whole - logprobs(REFERENCE).sum(1)))).sum(1).mean()


@pytest.mark.parametrize("algorithm", [Rloo(kind="rloo"), Reinforce(kind="reinforce", baseline="none")], ids=str)
def test_the_expected_gradient_is_that_of_all_prompts_alike(algorithm: Algorithm) -> None:
    """Over every prompt that may be drawn and every group of two of its completions."""
    engine = TabularEngine(REFERENCE.expand(3, 4, 3), end=2)
    engine.logits.data = TABLES.clone()
    everything = engine.all_completions()
    each = everything.batch.samples_per_prompt
    chances = Headroom().observe([(0, 3.0, 1.0), (1, 0.1, 1.0), (2, 0.0, 1.0)] * 4, 1).chances((PartSize("", 1.0, 3),))
    assert max(p / q for p, q in chances) > 3 * min(p / q for p, q in chances)  # the draws are far from uniform
    total = torch.zeros_like(TABLES)
    for prompt, (p, q) in enumerate(chances):
        mass = logprobs(TABLES[prompt]).sum(1).exp()
        for own in combinations_with_replacement(range(each), 2):
            rows = [prompt * each + one for one in own]
            batch = PromptBatch((engine.prompts[prompt],), 2, (0, 1), ((prompt, p / q),))
            rollout = picked(everything, rows, batch)
            scored = scored_by(engine, rollout, REWARDS[prompt, list(own)], BETA)
            accumulate_gradient(
                algorithm.advantages(scored, NOTHING),
                torch.arange(2),
                algorithm,
                engine,
                kl="reward",
                max_new_tokens=2,
                microbatch_size=2,
                tick=lambda: None,
            )
            orders = factorial(2) // prod(map(factorial, Counter(own).values()))
            assert engine.logits.grad is not None
            total -= q * orders * float(mass[list(own)].prod()) * engine.logits.grad
            engine.logits.grad = None
    tables = TABLES.clone().requires_grad_()
    (true,) = torch.autograd.grad(mean_objective(tables), tables)
    assert float(true.abs().max()) > 0.02
    assert float((total - true).abs().max()) < 1e-9


@pytest.mark.parametrize(("half_are_certain", "most", "prior"), [(False, 0.92, 1.0), (True, 0.68, 0.3)])
def test_scores_of_0_and_1_are_drawn_with_less_noise(*, half_are_certain: bool, most: float, prior: float) -> None:
    """Groups of four have one score by chance, or by the prompt's nature; uniform draws have a noise of 1.

    With all prompts' true success rates, and no estimate, draws would have 0.80 and 0.50.
    """
    found = list[tuple[float, float]]()
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        rates = torch.sigmoid(3 * torch.randn(64, generator=generator)).tolist()
        if half_are_certain:
            rates = [0.0 if n % 2 else 0.2 + 0.6 * rate for n, rate in enumerate(rates)]
        variances = [rate * (1 - rate) for rate in rates]
        parts, shown, noise = (PartSize("", 1.0, 64),), Headroom(), list[float]()
        for step in range(96):
            noise.append(sum(p * p / q * v for (p, q), v in zip(shown.chances(parts), variances, strict=True)))
            groups = [
                (number, float((torch.rand(4, generator=generator) < rates[number]).double().var()), weight)
                for number, weight in shown.draw(parts, 8, seed, step)
            ]
            shown = shown.observe(groups, step + 1)
        found.append((fmean(noise[16:]) / fmean(variances), PRIORS[shown.noise.index(min(shown.noise))]))
    assert fmean(share for share, _ in found) < most
    assert [one for _, one in found] == [prior] * 4
