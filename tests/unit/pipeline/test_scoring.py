"""From a rollout to scores and rewards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.distributions import Categorical, kl_divergence
from torch.testing import assert_close

from rlhf_cli.engine.reading import microbatches, recompute_logprobs, score_against_reference, unpacked
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.errors import EXIT_REWARD
from rlhf_cli.functional.truncation import NO_TRUNCATION, Truncation
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.scoring import drop_prompts, drop_unscored, learnable_mask, scores_by_prompt
from rlhf_cli.pipeline.skipping import Skip
from rlhf_cli.rewards.execution.scorer import Scores
from rlhf_cli.types import PromptBatch, Rollout, Scored
from tests.unit.support import batch_of, rollout_of

ROLLOUT = rollout_of([[1, 1], [1, 0], [1, 1], [1, 1]], samples=2, texts=["a", "b", "", "d\n\x1b"])


class TestUnscored:
    """Scores beside their rollout, and prompts that have none."""

    def test_where_all_have_scores_nothing_is_left_out(self) -> None:
        rollout, scores, parts = drop_unscored(ROLLOUT, Scores((1.0, -2.5, 0.0, 3.0), frozenset(), {}, 0, 0, None))
        assert rollout is ROLLOUT
        assert parts == {}
        assert (scores.tolist(), scores.dtype) == ([1.0, -2.5, 0.0, 3.0], torch.float32)

    def test_a_prompt_without_scores_is_left_out_with_its_completions(self) -> None:
        found = Scores((0.5, 3.0), frozenset({0}), {"part": (7.0, 8.0)}, 1, 0, "the first")
        rollout, scores, parts = drop_unscored(ROLLOUT, found)
        assert parts["part"].tolist() == [7.0, 8.0]
        assert rollout.texts == ("", "d\n\x1b")
        assert scores.tolist() == [0.5, 3.0]

    def test_where_no_prompt_is_left_there_is_nothing_to_learn_from(self) -> None:
        with pytest.raises(Skip) as caught:
            drop_unscored(ROLLOUT, Scores((), frozenset({0, 1}), {}, 3, 0, "rewards.py:f gave None"))
        assert caught.value.reason == (
            "no prompt has a score for each of its completions; the first failure: rewards.py:f gave None"
        )
        assert (caught.value.exit_code, caught.value.failures) == (EXIT_REWARD, 3) == (4, 3)

    @pytest.mark.parametrize(
        ("values", "left_out", "expected"),
        [((0.1, -2.5, 0.0, 3.0), set(), {0: [0.1, -2.5], 1: [0.0, 3.0]}), ((0.5, 3.0), {0}, {1: [0.5, 3.0]}),
         ((0.5, 3.0), {1}, {0: [0.5, 3.0]}), ((), {0, 1}, {})],
    )  # fmt: skip
    def test_scores_of_each_prompt(
        self, values: tuple[float, ...], left_out: set[int], expected: dict[int, list[float]]
    ) -> None:
        found = scores_by_prompt(Scores(values, frozenset(left_out), {}, 0, 0, None), ROLLOUT)
        assert found == {number: torch.tensor(group).tolist() for number, group in expected.items()}


class TestCounting:
    """Which completions are learned from."""

    CUT = rollout_of([[1]] * 6, samples=3, truncated=[False, True, False, True, True, False])

    @pytest.mark.parametrize("truncated", ["keep", "penalty"])
    def test_all_count_unless_cut_ones_are_not_to(self, truncated: str) -> None:
        assert learnable_mask(self.CUT, truncated, 2).tolist() == [True] * 6

    @pytest.mark.parametrize(
        ("at_least", "expected"),
        [(1, [True, False, True, False, False, True]), (2, [True, False, True, False, False, False])],
    )
    def test_cut_ones_do_not_nor_one_that_is_left_alone(self, at_least: int, expected: list[bool]) -> None:
        assert learnable_mask(self.CUT, "mask", at_least).tolist() == expected

    def test_where_none_counts_the_step_is_skipped(self) -> None:
        with pytest.raises(Skip, match=r"no group has enough completions that ended"):
            learnable_mask(self.CUT, "mask", 3)


class TestWithout:
    """Prompts that are taken out of a rollout leave no trace."""

    @pytest.mark.parametrize("truncation", [NO_TRUNCATION, Truncation(top_k=9, top_p=0.9, min_p=0.0)])
    @pytest.mark.parametrize("dropped", [{0}, {1}, {2}, {0, 2}, set()])
    def test_it_is_the_rollout_of_the_others_alone(
        self, moved: Policy, dropped: set[int], truncation: Truncation
    ) -> None:
        engine = TransformersEngine(moved)
        batch = batch_of(moved, ["Hello there", "a", "What is rain?"], samples=2)
        kept = [number for number in range(3) if number not in dropped]
        seeds = tuple(batch.seeds[2 * number + sample] for number in kept for sample in range(2))
        alone = PromptBatch(tuple(batch.prompts[number] for number in kept), 2, seeds)
        one, other = (engine.sample(b, 12, 1.3, lambda: None, truncation) for b in (batch, alone))
        found = drop_prompts(replace(one, log_weights=torch.arange(6.0)), dropped)
        assert found.log_weights.tolist() == [2.0 * number + sample for number in kept for sample in range(2)]
        assert found.batch == other.batch
        assert (found.texts, found.temperature) == (other.texts, other.temperature)
        for name in ("tokens", "completion_mask", "truncated"):
            assert torch.equal(getattr(found, name), getattr(other, name)), name
        for name in ("logprobs", "hidden"):  # another width of the batch may round otherwise
            assert_close(getattr(found, name), getattr(other, name), rtol=0, atol=1e-4)
        if one.kept is None or other.kept is None or found.kept is None:
            assert one.kept is other.kept is found.kept is None
        else:
            assert torch.equal(found.kept.ids, other.kept.ids)
            assert torch.equal(found.kept.offsets, other.kept.offsets)

    def test_what_is_left_is_no_wider_than_its_longest_completion(self) -> None:
        rollout = rollout_of([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]])
        found = drop_prompts(rollout, {0})
        assert found.completion_mask.int().tolist() == [[1, 0], [1, 1]]
        assert (found.logprobs.shape, found.hidden.shape) == ((2, 2), (2, 2, 1))


class TestAgainst:
    """The reference beside the rollout."""

    def test_every_figure_is_that_of_full_distributions(self, moved: Policy) -> None:
        engine = TransformersEngine(moved)
        rollout = engine.sample(batch_of(moved, ["Hello there", "a"], samples=2), 6, 1.4, lambda: None)
        scored = score_against_reference(rollout, torch.tensor([1.0, 2.0, 3.0, 4.0]), engine, 0.25, 3, lambda: None)
        for row in range(4):
            length, one = int(rollout.lengths[row]), torch.tensor([row])
            tokens = rollout.tokens[row, :length]
            policy, reference = (
                Categorical(logits=engine.head(engine.hidden(rollout, one, reference=off)).detach() / 1.4)
                for off in (False, True)
            )
            assert_close(scored.ref_logprobs[row, :length], reference.log_prob(tokens), rtol=0, atol=1e-4)
            assert_close(scored.exact.kl[row, :length], kl_divergence(policy, reference), rtol=0, atol=1e-4)
            assert_close(scored.exact.entropy[row, :length], policy.entropy(), rtol=0, atol=1e-4)
            assert_close(
                scored.kl[row, :length], policy.log_prob(tokens) - reference.log_prob(tokens), rtol=0, atol=1e-4
            )
            assert float(scored.rewards[row].sum()) == pytest.approx(
                row + 1 - 0.25 * float(scored.kl[row].sum()), abs=1e-5
            )
        assert float(scored.exact.kl.sum()) > 0.01
        assert scored.beta == 0.25

    def test_the_microbatch_size_changes_nothing(self, moved: Policy) -> None:
        engine = TransformersEngine(moved)
        rollout = engine.sample(batch_of(moved, ["Hello there", "a", "xyz"], samples=1), 6, 1.0, lambda: None)
        ticks: list[None] = []
        found = [
            score_against_reference(rollout, torch.ones(3), engine, 0.1, size, lambda: ticks.append(None))
            for size in (1, 2, 5)
        ]
        assert len(ticks) == 3 + 2 + 1
        for other in found[1:]:
            for name in ("ref_logprobs", "kl", "rewards"):
                assert_close(getattr(other, name), getattr(found[0], name), rtol=0, atol=1e-5)
            assert_close(other.exact.kl, found[0].exact.kl, rtol=0, atol=1e-5)
            assert_close(other.exact.entropy, found[0].exact.entropy, rtol=0, atol=1e-5)

    def test_the_reference_itself_has_no_kl(self, moved: Policy) -> None:
        engine = TransformersEngine(moved)
        with moved.reference():
            rollout = engine.sample(batch_of(moved, ["Hello"], samples=2), 6, 1.0, lambda: None)
        scored = score_against_reference(rollout, torch.ones(2), engine, 0.1, 2, lambda: None)
        assert_close(scored.exact.kl, torch.zeros_like(scored.kl), rtol=0, atol=1e-5)
        assert_close(scored.kl, torch.zeros_like(scored.kl), rtol=0, atol=1e-4)


class TestReread:
    """The trainer reads what the sampler wrote."""

    def test_the_trainer_takes_the_samplers_place_and_the_weights_say_how_far_apart_they_were(
        self, moved: Policy
    ) -> None:
        engine = TransformersEngine(moved)
        honest = engine.sample(batch_of(moved, ["Hello there", "a"], samples=2), 6, 1.4, lambda: None)
        off = torch.tensor([0.5, -0.25, 0.0, 1.0])[:, None] * honest.completion_mask / honest.lengths[:, None]
        rollout = replace(honest, logprobs=honest.logprobs - off, hidden=torch.zeros_like(honest.hidden))
        ticks: list[None] = []
        found = recompute_logprobs(rollout, engine, 3, lambda: ticks.append(None))
        assert len(ticks) == 2
        assert_close(found.logprobs, honest.logprobs, rtol=0, atol=1e-5)
        assert_close(found.log_weights, torch.tensor([0.5, -0.25, 0.0, 1.0]), rtol=0, atol=1e-4)
        keep = honest.completion_mask
        assert_close(found.hidden[keep], honest.hidden[keep], rtol=0, atol=1e-4)
        assert not found.logprobs[~keep].any()
        assert not found.hidden[~keep].any()

    def test_a_sampler_that_agrees_leaves_weights_of_one(self, moved: Policy) -> None:
        engine = TransformersEngine(moved)
        rollout = engine.sample(batch_of(moved, ["Hello there", "a"], samples=2), 6, 1.0, lambda: None)
        assert not rollout.log_weights.any()
        assert float(recompute_logprobs(rollout, engine, 4, lambda: None).log_weights.abs().max()) < 1e-4


class TestPlacement:
    """What the rewards hold, by where the KL goes."""

    @pytest.fixture
    def rollout(self, moved: Policy) -> Rollout:
        self.engine = TransformersEngine(moved)
        return self.engine.sample(batch_of(moved, ["Hello there", "a"], samples=2), 6, 1.0, lambda: None)

    def score_against_reference(self, rollout: Rollout, **changes: Any) -> Scored:
        return score_against_reference(rollout, torch.ones(4), self.engine, 0.25, 3, lambda: None, **changes)

    def test_in_the_reward_it_is_k1(self, rollout: Rollout) -> None:
        scored = self.score_against_reference(rollout)
        assert_close(scored.rewards.sum(1), 1 - 0.25 * scored.kl.sum(1))
        assert scored.ref_hidden is None

    def test_exact_it_is_the_whole_distributions(self, rollout: Rollout) -> None:
        scored = self.score_against_reference(rollout, kl="exact")
        assert_close(scored.rewards.sum(1), 1 - 0.25 * scored.exact.kl.sum(1))
        keep = rollout.completion_mask
        expected = self.engine.hidden(rollout, torch.arange(4), reference=True)
        assert_close(scored.ref_hidden[keep], expected.detach(), rtol=0, atol=1e-5)

    def test_as_a_loss_it_leaves_the_rewards_alone(self, rollout: Rollout) -> None:
        assert_close(self.score_against_reference(rollout, kl="loss_k2").rewards.sum(1), torch.ones(4))

    def test_between_measurements_only_k1_is_known(self, rollout: Rollout) -> None:
        measured, unmeasured = (
            self.score_against_reference(rollout),
            self.score_against_reference(rollout, measure_exact=False),
        )
        assert unmeasured.exact is None
        assert_close(unmeasured.ref_logprobs, measured.ref_logprobs, rtol=0, atol=1e-6)
        assert_close(unmeasured.sequence_kl, measured.kl.sum(1), rtol=0, atol=1e-5)
        assert_close(measured.sequence_kl, measured.exact.kl.sum(1))


@pytest.mark.parametrize(
    ("rows", "size", "expected"),
    [([4, 0, 3, 1, 2], 2, [[4, 0], [3, 1], [2]]), ([7, 5], 2, [[7, 5]]), ([2, 1, 0], 8, [[2, 1, 0]]), ([3], 1, [[3]])],
)
def test_microbatches(rows: list[int], size: int, expected: list[list[int]]) -> None:
    assert [part.tolist() for part in microbatches(torch.tensor(rows), size)] == expected


def test_unpacked_puts_every_value_back_in_its_place() -> None:
    mask = torch.tensor([[True, True, False], [False, False, False], [True, False, True]])
    values = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    found = unpacked(values, mask)
    assert found.tolist() == [[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, 4.0]]
    (found * torch.arange(9.0).view(3, 3)).sum().backward()
    assert values.grad.tolist() == [0.0, 1.0, 6.0, 8.0]
