"""Prompts are drawn by what is left to gain, and the expected gradient stays that of all prompts alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations_with_replacement, pairwise
from math import factorial, prod

import pytest
import torch
from torch import Tensor

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.algorithms.reinforce import Reinforce
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.data.order import PartSize
from rlhf_cli.engine.tabular import TabularEngine
from rlhf_cli.pipeline.update import accumulate_gradient
from rlhf_cli.prompts.headroom import FLOOR, MEMORY, PRIOR, Headroom, systematic
from rlhf_cli.types import PromptBatch
from tests.unit.algorithms.enumerated import BETA, NOTHING, REFERENCE, SCORES, logprobs, picked, random
from tests.unit.support import scored_by

FOUR = (PartSize("", 1.0, 4),)


def test_the_chances_by_hand() -> None:
    shown = Headroom({0: 1.0, 2: 3.0}, {0: 4.0, 2: 0.0})
    typical = 4 / 4  # of four groups
    gains = [
        math.sqrt((4 + PRIOR * typical) / (1 + PRIOR)),
        math.sqrt(typical),  # never drawn
        math.sqrt(PRIOR * typical / (3 + PRIOR)),
        math.sqrt(typical),
    ]
    found = shown.chances(FOUR)
    assert [p for p, _ in found] == [0.25] * 4
    assert [q for _, q in found] == pytest.approx([(1 - FLOOR) * gain / sum(gains) + FLOOR / 4 for gain in gains])
    assert sum(q for _, q in found) == pytest.approx(1)
    assert min(q / p for p, q in found) > FLOOR


def test_the_constants_are_those_of_the_docs() -> None:
    assert (FLOOR, MEMORY, PRIOR) == (0.1, 0.75, 0.1)


def test_a_part_has_its_share_of_the_objective_and_not_of_the_rows() -> None:
    parts = (PartSize("a", 3.0, 2), PartSize("b", 1.0, 4))
    assert [p for p, _ in Headroom().chances(parts)] == pytest.approx([3 / 8, 3 / 8, *[1 / 16] * 4])
    one = Headroom({number: 1.0 for number in range(6)}, {number: 2.0 for number in range(6)})
    for p, q in one.chances(parts):
        assert q == pytest.approx(p)  # alike in variance


def test_without_any_variance_every_prompt_is_drawn_alike() -> None:
    shown = Headroom({0: 1.0, 1: 1.0}, {0: 0.0, 1: 0.0})
    assert shown.chances(FOUR) == [(0.25, 0.25)] * 4
    assert {weight for _, weight in shown.draw(FOUR, 3, seed=0, step=0)} == {1.0}


def test_estimates_of_prompts_that_are_gone_are_no_error() -> None:
    shown = Headroom({0: 1.0, 9: 1.0}, {0: 1.0, 9: 1.0})
    assert {number for step in range(20) for number, _ in shown.draw(FOUR, 3, seed=0, step=step)} == {0, 1, 2, 3}


def test_a_group_counts_less_with_every_later_one_of_its_prompt() -> None:
    shown = Headroom().observe([(5, 2.0), (5, 4.0), (1, 0.5)])
    assert shown.groups == {5: 1 + MEMORY, 1: 1.0}
    assert shown.variances == {5: 4.0 + MEMORY * 2.0, 1: 0.5}
    assert shown.observe([]) == shown


def test_chances_do_not_depend_on_the_order_of_the_estimates() -> None:
    """A checkpoint has its prompts in the order of their names, and not in that of their draws."""
    parts = (PartSize("", 1.0, 9),)
    for seed in range(20):
        numbers = torch.rand(2, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).tolist()
        grown = Headroom(*(dict(enumerate(row)) for row in numbers))
        read = Headroom(dict(reversed(grown.groups.items())), dict(reversed(grown.variances.items())))
        assert read.chances(parts) == grown.chances(parts)


def test_draws_are_a_function_of_estimates_seed_and_step() -> None:
    shown = Headroom().observe([(0, 1.0), (1, 0.0)])
    one = shown.draw(FOUR, 2, seed=1, step=7)
    assert shown.draw(FOUR, 2, seed=1, step=7) == one
    shares = [p / q for p, q in shown.chances(FOUR)]
    assert max(shares) > 2 * min(shares)
    assert [weight for _, weight in one] == pytest.approx([shares[number] for number, _ in one])
    others = {shown.draw(FOUR, 2, seed=seed, step=step) for seed in range(3) for step in range(5)}
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


def test_the_starts_of_the_steps_are_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[float] = []

    def places(chances: Sequence[float], count: int, start: float) -> list[int]:
        starts.append(start)
        return systematic(chances, count, start)

    monkeypatch.setattr("rlhf_cli.prompts.headroom.systematic", places)
    for step in range(400):
        Headroom().draw(FOUR, 2, seed=0, step=step)
    assert 0 <= min(starts) < 0.05
    assert 0.95 < max(starts) < 1
    assert 0.4 < sum(starts) / 400 < 0.6


def test_chances_count_by_their_share_of_the_sum() -> None:
    # eighths at 1, 3, 5 and 7; the first two places have a quarter each
    assert systematic([1.0, 1.0, 2.0], 4, 0.5) == [0, 1, 2, 2]


def test_a_start_next_to_one_stays_within_the_last_place() -> None:
    # 3 + start is 4 in floating point, and so the last point is the end itself
    assert systematic([0.25] * 4, 4, math.nextafter(1.0, 0.0))[-1] == 3


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
    chances = Headroom().observe([(0, 3.0), (1, 0.1), (2, 0.0)]).chances((PartSize("", 1.0, 3),))
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
