"""The gradient of a step is the sum of its units' gradients, in their order."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

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
from rlhf_cli.errors import UserError
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models.policy import Policy
from rlhf_cli.ranks.dealing import deal
from rlhf_cli.ranks.gradient import (
    Sums,
    accumulate_gradient,
    add_gradients,
    check_gradients,
    differentiate,
    join_sums,
    seed_of_shard,
    split_rows,
    sum_gradient,
    weigh_tokens,
)
from rlhf_cli.ranks.rollouts import split_advantages
from rlhf_cli.types import Advantages, Forward, LossResult, Minibatch
from tests.unit.support import batch_of, build, move_adapter, rollout_of, scored_by, scored_of, tiny

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
    at_once = accumulate_gradient(
        advantages, torch.tensor([*rows]), RLOO, TransformersEngine(policy),
        kl=kl, max_new_tokens=7, microbatch_size=3, tick=nothing,
    )  # fmt: skip
    assert at_once == pytest.approx(logged, abs=1e-5)


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


def test_metrics_are_means_over_the_tokens_and_the_loss_is_a_sum() -> None:
    units = [Sums({"loss": 1.0, "clip": 3.0}, 0.25), Sums({"loss": 2.0, "clip": 1.0}, 0.5), Sums({"loss": -4.0}, 0.125)]
    assert join_sums(units, 8) == {"loss": -1.0, "clip": 0.5, "sampler/gap": 0.5}


@pytest.mark.parametrize(
    ("missing", "said"), [(1, "a"), (3, "a, b, c"), (4, "a, b, c and 1 more"), (6, "a, b, c and 3 more")]
)
def test_weights_without_a_gradient_are_named(missing: int, said: str) -> None:
    weights = {name: SimpleNamespace(grad=None if place < missing else 0.0) for place, name in enumerate("abcdef")}
    policy: Any = SimpleNamespace(parameters=lambda: weights)
    with pytest.raises(UserError) as caught:
        check_gradients(policy)
    assert caught.value.what == f"{missing} of 6 trained weights have no gradient: {said}"
    for weight in weights.values():
        weight.grad = 0.0
    check_gradients(policy)


def of_logprobs(minibatch: Minibatch, forward: Forward) -> LossResult:
    """A loss of 1/2 a microbatch, with a gradient of zeros."""
    return LossResult(0.0 * forward.logprobs.sum() + 0.5)


FLAT: Any = SimpleNamespace(needs_value=False, loss=of_logprobs)


@pytest.mark.parametrize("kl", ["reward", "exact", "loss_k2", "loss_k2_sequence"])
def test_the_kl_is_a_loss_of_its_own_where_it_is_none_of_the_reward(policy: Policy, kl: Placement) -> None:
    advantages, engine = advantages_of(policy, kl), TransformersEngine(policy)
    scored, rows = advantages.scored, torch.tensor([6, 1, 3, 0, 7])
    mask = scored.rollout.completion_mask
    weights = torch.zeros(mask.shape)
    weights[rows] = torch.arange(1.0, 6.0).unsqueeze(1) * mask[rows]
    apart = scored.rollout.logprobs - scored.distance.ref_logprobs
    assert scored.distance.exact is not None
    expected = {
        "reward": torch.tensor(0.0),
        "exact": (weights * scored.distance.exact.kl).sum(),
        "loss_k2": (weights * apart**2).sum() / 2,
        "loss_k2_sequence": (torch.arange(1.0, 6.0) * (apart * mask)[rows].sum(1) ** 2).sum() / 2,
    }
    found = sum_gradient(advantages, weights, rows, FLAT, engine, kl=kl, microbatch_size=2, tick=nothing)
    of_kl = found.totals["loss"] - 1.5  # three microbatches
    assert of_kl == pytest.approx(0.3 * float(expected[kl]), rel=1e-3, abs=1e-6)
    assert kl == "reward" or of_kl > 1e-3


def test_the_gap_is_that_of_the_completion_that_is_furthest_off(policy: Policy) -> None:
    advantages, engine, ticks = advantages_of(policy, "reward"), TransformersEngine(policy), list[int]()
    rollout = advantages.scored.rollout
    off = torch.zeros_like(rollout.logprobs)
    off[1] = 0.25 * rollout.completion_mask[1]
    off[3, 0] = -0.125
    expected = 0.25 * int(rollout.lengths[1])
    assert expected > 0.25
    scored = replace(advantages.scored, rollout=replace(rollout, logprobs=rollout.logprobs + off))
    found = sum_gradient(
        replace(advantages, scored=scored), torch.zeros_like(off), torch.tensor([0, 1, 2, 3, 4]), FLAT, engine,
        kl="reward", microbatch_size=3, tick=lambda: ticks.append(1),
    )  # fmt: skip
    assert found.gap == pytest.approx(expected, abs=1e-3)
    assert len(ticks) == 2


def test_a_loss_reads_its_own_rows(policy: Policy) -> None:
    advantages, engine, seen = advantages_of(policy, "reward"), TransformersEngine(policy), list[Minibatch]()

    def loss(minibatch: Minibatch, forward: Forward) -> LossResult:
        seen.append(minibatch)
        return of_logprobs(minibatch, forward)

    algorithm: Any = SimpleNamespace(needs_value=False, loss=loss)
    shape = advantages.advantages.shape
    numbers = torch.arange(float(shape.numel())).reshape(shape)
    scored = replace(advantages.scored, values=numbers + 1000)
    for given in (advantages, replace(advantages, scored=scored, returns=numbers + 2000)):
        seen.clear()
        sum_gradient(
            given, numbers, torch.tensor([6, 1, 3]), algorithm, engine, kl="reward", microbatch_size=2, tick=nothing
        )
        for found, rows in zip(seen, ([6, 1], [3]), strict=True):
            assert torch.equal(found.weights, numbers[rows])
            assert torch.equal(found.advantages, given.advantages[rows])
            assert torch.equal(found.logprobs, given.scored.rollout.logprobs[rows])
            if given.returns is None:
                assert found.values is None
                assert found.returns is None
            else:
                assert found.values is not None
                assert found.returns is not None
                assert torch.equal(found.values, numbers[rows] + 1000)
                assert torch.equal(found.returns, numbers[rows] + 2000)


def test_a_token_has_the_weights_of_its_completion_and_of_its_prompt() -> None:
    """Two prompts with two completions each, of which three are learned from: before, each of their tokens has 1/3."""
    rollout = rollout_of([[1, 1], [1, 0], [1, 1], [1, 0]], samples=2)
    scored, rows = scored_of(rollout, [0.0] * 4), torch.tensor([0, 1, 3])
    plain = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]) / 3
    algorithm: Any = SimpleNamespace(aggregation="sum")
    assert_close(weigh_tokens(scored, rows, algorithm, 2), plain)
    drawn = replace(rollout, batch=replace(rollout.batch, draws=((7, 0.5), (2, 4.0))))
    of_prompts = torch.tensor([[0.5, 0.5], [0.5, 0.0], [0.0, 0.0], [4.0, 0.0]]) / 3
    assert_close(weigh_tokens(replace(scored, rollout=drawn), rows, algorithm, 2), of_prompts)
    off = replace(scored, log_weights=torch.tensor([0.0, -1.0, 0.0, 9.0]))  # the last one is cut at 2
    of_samples = plain * torch.tensor([1.0, 0.36787944, 0.0, 2.0]).unsqueeze(1)
    assert_close(weigh_tokens(off, rows, algorithm, 2), of_samples)


def test_the_parts_of_an_update_travel_without_hidden_states() -> None:
    rollout = rollout_of([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]], samples=2)
    advantages = Advantages(scored_of(rollout, [0.0] * 4), torch.zeros(4, 3))
    for blocks, shapes in (([range(2)], [(4, 3, 0)]), ([range(1), range(1, 2)], [(2, 3, 0), (2, 2, 0)])):
        parts = split_advantages(advantages, blocks)
        assert [tuple(part.scored.rollout.hidden.shape) for part in parts] == shapes
