"""The gradient of a step is the sum of its units' gradients, in their order."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.placement import Placement
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.engine.reading import measure_distance
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models.policy import Policy
from rlhf_cli.ranks.dealing import deal
from rlhf_cli.ranks.gradient import add_gradients, differentiate, join_sums, seed_of_shard, split_rows, weigh_tokens
from rlhf_cli.types import Advantages
from tests.unit.support import batch_of, build, move_adapter, scored_by, tiny

TEXTS, SAMPLES = ("Hello there", "a", "What is rain?", "xyz"), 2
SCORES = torch.tensor([1.0, -0.5, 0.3, 2.0, 0.0, -1.0, 0.7, 0.1])
RLOO = Rloo(kind="rloo")


@pytest.fixture
def policy() -> Policy:
    made = build(tiny("llama"))
    move_adapter(made)
    return made


def nothing() -> None:
    """A tick that nobody counts."""


def advantages_of(policy: Policy, kl: Placement) -> Advantages:
    engine = TransformersEngine(policy)
    rollout = engine.sample(batch_of(policy, TEXTS, SAMPLES), Sampling(7, 1.2), nothing)
    return RLOO.advantages(scored_by(engine, rollout, SCORES, 0.3, kl=kl), RunningMean())


def gradient(
    policy: Policy, advantages: Advantages, rows: Tensor, shards: int, kl: Placement, *, units: bool = False
) -> tuple[list[Tensor], dict[str, float]]:
    weights, blocks = weigh_tokens(advantages.scored, rows, RLOO, 7), deal(len(TEXTS), shards)
    engine, found = TransformersEngine(policy), []
    for number, part in split_rows(advantages, weights, rows, blocks).items():
        sizes = [1] * len(blocks[number]) if units else [len(blocks[number])]
        found += differentiate(policy, engine, *part, sizes, RLOO, kl, 3, seed_of_shard(5, number), False, tick=nothing)
    add_gradients(policy, [unit.gradient for unit in found])
    tokens = int(advantages.scored.rollout.completion_mask[rows].sum())
    gradients = [parameter.grad for parameter in policy.parameters().values() if parameter.grad is not None]
    return gradients, join_sums([unit.sums for unit in found], tokens)


@pytest.mark.parametrize("kl", ["reward", "exact", "loss_k2"])
@pytest.mark.parametrize("rows", [range(8), (6, 1, 3, 0, 7)], ids=["whole", "minibatch"])
def test_shards_and_units_have_the_gradient_of_the_whole(policy: Policy, kl: Placement, rows: tuple[int, ...]) -> None:
    advantages = advantages_of(policy, kl)
    whole, logged = gradient(policy, advantages, torch.tensor([*rows]), 1, kl)
    for shards, units in ((2, False), (4, False), (1, True), (2, True)):
        dealt, logged_dealt = gradient(policy, advantages, torch.tensor([*rows]), shards, kl, units=units)
        largest = max(float(part.abs().max()) for part in whole)
        assert largest > 1e-3
        for one, other in zip(whole, dealt, strict=True):
            assert_close(other, one, rtol=0, atol=1e-6 * max(1.0, largest))
        assert logged_dealt == pytest.approx(logged, abs=1e-5)


@pytest.mark.parametrize("kl", ["reward", "exact"])
def test_a_remembered_pass_with_its_slopes_needs_no_product_of_the_output_layer(
    policy: Policy, kl: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, rows = NativeEngine(policy), torch.tensor([6, 1, 3, 0, 7])
    rollout = engine.sample(batch_of(policy, TEXTS, SAMPLES), Sampling(7, 1.2), nothing, remember=1)
    distance = measure_distance(rollout, engine, 3, nothing, keep_hidden=kl == "exact", slopes=True)
    scored = replace(scored_by(engine, rollout, SCORES, 0.3, kl=kl), distance=distance)
    advantages = RLOO.advantages(scored, RunningMean())
    weights = weigh_tokens(scored, rows, RLOO, 7)
    common = policy, engine, advantages, weights, rows, [len(TEXTS)], RLOO, kl, 3, 5
    [expected] = (unit.gradient for unit in differentiate(*common, False, tick=nothing))
    monkeypatch.setattr(NativeEngine, "head", None)
    [found] = (unit.gradient for unit in differentiate(*common, True, tick=nothing))
    of_all, of_found = (torch.cat([g.flatten() for g in one if g is not None]) for one in (expected, found))
    assert of_all.norm() > 1e-2
    assert (of_found - of_all).norm() < 1e-5 * of_all.norm()


def test_a_shard_without_rows_is_left_out(policy: Policy) -> None:
    advantages = advantages_of(policy, "reward")
    weights = weigh_tokens(advantages.scored, torch.tensor([5, 0]), RLOO, 7)
    parts = split_rows(advantages, weights, torch.tensor([5, 0]), deal(4, 4))
    assert {number: rows.tolist() for number, (*_, rows) in parts.items()} == {0: [0], 2: [1]}
    assert [part.scored.rollout.batch.prompts[0].text for part, *_ in parts.values()] == [
        "Hello there",
        "What is rain?",
    ]


def test_gradients_are_added_in_the_order_of_the_shards(policy: Policy) -> None:
    large, small = 2.0**24, 1.0  # float32: (large + small) + small loses both
    names = policy.parameters()
    shards = [[torch.full_like(p, value) for p in names.values()] for value in (small, small, large)]
    add_gradients(policy, shards)
    assert all(bool((p.grad == large + 2).all()) for p in names.values() if p.grad is not None)
    add_gradients(policy, shards[::-1])
    assert all(bool((p.grad == large).all()) for p in names.values() if p.grad is not None)


def test_a_weight_that_no_shard_reaches_has_no_gradient(policy: Policy) -> None:
    add_gradients(policy, [[None for _ in policy.parameters()] for _ in range(2)])
    assert all(p.grad is None for p in policy.parameters().values())


def test_each_shard_has_a_dropout_of_its_own() -> None:
    seeds = [seed_of_shard(5, number) for number in range(3)]
    assert seeds[0] == 5
    assert len(set(seeds)) == 3
