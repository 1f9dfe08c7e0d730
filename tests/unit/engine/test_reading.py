"""Read a rollout with trainer, reference and value head."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.distributions import Categorical, kl_divergence
from torch.testing import assert_close

from rlhf_cli.engine.reading import measure_distance, read_values, recompute_logprobs, unpack
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models.policy import Policy
from tests.unit.support import batch_of, build, move_adapter, tiny


class TestDistance:
    """The reference beside the rollout."""

    def test_every_figure_is_that_of_full_distributions(self, moved: Policy) -> None:
        engine = TransformersEngine(moved)
        rollout = engine.sample(batch_of(moved, ["Hello there", "a"], samples=2), Sampling(6, 1.4), lambda: None)
        distance = measure_distance(rollout, engine, 3, lambda: None)
        for row in range(4):
            length, one = int(rollout.lengths[row]), torch.tensor([row])
            tokens = rollout.tokens[row, :length]
            policy, reference = (
                Categorical(logits=engine.head(engine.hidden(rollout, one, reference=off)).detach() / 1.4)
                for off in (False, True)
            )
            k1 = policy.log_prob(tokens) - reference.log_prob(tokens)
            assert_close(distance.ref_logprobs[row, :length], reference.log_prob(tokens), rtol=0, atol=1e-4)
            assert_close(distance.exact.kl[row, :length], kl_divergence(policy, reference), rtol=0, atol=1e-4)
            assert_close(distance.exact.entropy[row, :length], policy.entropy(), rtol=0, atol=1e-4)
            assert_close(distance.kl[row, :length], k1, rtol=0, atol=1e-4)
        assert float(distance.exact.kl.sum()) > 0.01

    def test_the_microbatch_size_changes_nothing(self, moved: Policy) -> None:
        engine = TransformersEngine(moved)
        rollout = engine.sample(batch_of(moved, ["Hello there", "a", "xyz"], samples=1), Sampling(6, 1.0), lambda: None)
        ticks: list[None] = []
        first, *others = (
            measure_distance(rollout, engine, size, lambda: ticks.append(None), keep_hidden=True) for size in (1, 2, 5)
        )
        assert len(ticks) == 3 + 2 + 1
        for other in others:
            for name in ("ref_logprobs", "kl", "ref_hidden"):
                assert_close(getattr(other, name), getattr(first, name), rtol=0, atol=1e-5)
            assert_close(other.exact.kl, first.exact.kl, rtol=0, atol=1e-5)
            assert_close(other.exact.entropy, first.exact.entropy, rtol=0, atol=1e-5)

    def test_the_reference_itself_has_no_kl(self, moved: Policy) -> None:
        engine = TransformersEngine(moved)
        with moved.reference():
            rollout = engine.sample(batch_of(moved, ["Hello"], samples=2), Sampling(6, 1.0), lambda: None)
        distance = measure_distance(rollout, engine, 2, lambda: None)
        assert_close(distance.exact.kl, torch.zeros_like(distance.kl), rtol=0, atol=1e-5)
        assert_close(distance.kl, torch.zeros_like(distance.kl), rtol=0, atol=1e-4)

    def test_the_hidden_states_of_the_reference_are_kept_on_request(self, moved: Policy) -> None:
        engine = TransformersEngine(moved)
        rollout = engine.sample(batch_of(moved, ["Hello there", "a"], samples=2), Sampling(6, 1.0), lambda: None)
        assert measure_distance(rollout, engine, 3, lambda: None).ref_hidden is None
        kept = measure_distance(rollout, engine, 3, lambda: None, keep_hidden=True).ref_hidden
        expected = engine.hidden(rollout, torch.arange(4), reference=True).detach()
        assert_close(kept[rollout.completion_mask], expected, rtol=0, atol=1e-5)

    def test_between_measurements_only_k1_is_known(self, moved: Policy) -> None:
        engine = TransformersEngine(moved)
        rollout = engine.sample(batch_of(moved, ["Hello there", "a"], samples=2), Sampling(6, 1.0), lambda: None)
        measured, unmeasured = (
            measure_distance(rollout, engine, 3, lambda: None, exact=exact) for exact in (True, False)
        )
        assert unmeasured.exact is None
        assert_close(unmeasured.ref_logprobs, measured.ref_logprobs, rtol=0, atol=1e-6)
        assert_close(unmeasured.sequence_kl, measured.kl.sum(1), rtol=0, atol=1e-5)
        assert_close(measured.sequence_kl, measured.exact.kl.sum(1))


def test_values_are_those_of_every_state_whatever_the_microbatches() -> None:
    policy = build(tiny("gpt2"), value_head=True)
    move_adapter(policy)
    engine = TransformersEngine(policy)
    rollout = engine.sample(batch_of(policy, ["Hello there", "a"], samples=2), Sampling(6, 1.0), lambda: None)
    keep = rollout.completion_mask
    expected = engine.values(engine.hidden(rollout, torch.arange(4))).detach()
    for size in (1, 3, 4):
        values = read_values(rollout, engine, size)
        assert_close(values[keep], expected, rtol=0, atol=1e-5)
        assert not values[~keep].any()
    assert float(expected.abs().max()) > 0.01


class TestRecomputed:
    """The trainer's log-probabilities in place of the sampler's."""

    def test_the_trainer_takes_the_samplers_place_and_the_weights_say_how_far_apart_they_were(
        self, moved: Policy
    ) -> None:
        engine = TransformersEngine(moved)
        honest = engine.sample(batch_of(moved, ["Hello there", "a"], samples=2), Sampling(6, 1.4), lambda: None)
        off = torch.tensor([0.5, -0.25, 0.0, 1.0])[:, None] * honest.completion_mask / honest.lengths[:, None]
        rollout = replace(honest, logprobs=honest.logprobs - off, hidden=torch.zeros_like(honest.hidden))
        ticks: list[None] = []
        found, log_weights = recompute_logprobs(rollout, engine, 3, lambda: ticks.append(None))
        assert len(ticks) == 2
        assert_close(found.logprobs, honest.logprobs, rtol=0, atol=1e-5)
        assert_close(log_weights, torch.tensor([0.5, -0.25, 0.0, 1.0]), rtol=0, atol=1e-4)
        keep = honest.completion_mask
        assert_close(found.hidden[keep], honest.hidden[keep], rtol=0, atol=1e-4)
        assert not found.logprobs[~keep].any()
        assert not found.hidden[~keep].any()

    def test_a_sampler_that_agrees_leaves_weights_of_one(self, moved: Policy) -> None:
        engine = TransformersEngine(moved)
        rollout = engine.sample(batch_of(moved, ["Hello there", "a"], samples=2), Sampling(6, 1.0), lambda: None)
        _, log_weights = recompute_logprobs(rollout, engine, 4, lambda: None)
        assert float(log_weights.abs().max()) < 1e-4


def test_unpack_puts_every_value_back_in_its_place() -> None:
    mask = torch.tensor([[True, True, False], [False, False, False], [True, False, True]])
    values = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    found = unpack(values, mask)
    assert found.tolist() == [[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, 4.0]]
    (found * torch.arange(9.0).view(3, 3)).sum().backward()
    assert values.grad.tolist() == [0.0, 1.0, 6.0, 8.0]
