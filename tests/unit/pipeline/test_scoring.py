"""From a rollout to scores and rewards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.distributions import Categorical, kl_divergence
from torch.testing import assert_close

from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.errors import EXIT_REWARD, UserError
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.scoring import against, judge, microbatches, reread, unpacked
from rlhf_cli.types import PromptRow, Rollout, Scored
from tests.unit.support import batch_of, rollout_of


class Fixed:
    """A reward that says what it is told to, and remembers what it was asked."""

    kind = "fixed"

    def __init__(self, scores: Sequence[Any]) -> None:
        self.scores = scores
        self.asked: list[tuple[str, str]] = []

    def score(self, prompts: Sequence[PromptRow], completions: Sequence[str]) -> Any:
        self.asked = [(row.shown, text) for row, text in zip(prompts, completions, strict=True)]
        return self.scores


def fixed(scores: Sequence[Any]) -> Any:
    """A stand-in for a reward: Any, since the union of rewards is closed."""
    return Fixed(scores)


ROLLOUT = rollout_of([[1, 1], [1, 0], [1, 1], [1, 1]], samples=2, texts=["a", "b", "", "d\n\x1b"])


class TestJudge:
    """The reward's answer is checked before anything is learned from it."""

    def test_every_completion_is_judged_with_its_own_prompt(self) -> None:
        reward = fixed([1, -2.5, 0.0, 3])
        scores = judge(ROLLOUT, reward)
        assert reward.asked == [("prompt 0", "a"), ("prompt 0", "b"), ("prompt 1", ""), ("prompt 1", "d\n\x1b")]
        assert (scores.tolist(), scores.dtype) == ([1.0, -2.5, 0.0, 3.0], torch.float32)

    @pytest.mark.parametrize("count", [0, 1, 3, 5])
    def test_the_wrong_number_of_scores_is_refused(self, count: int) -> None:
        with pytest.raises(UserError) as caught:
            judge(ROLLOUT, fixed([0.0] * count))
        assert caught.value.line() == f"{count} scores for 4 completions (reward=fixed)"
        assert caught.value.exit_code == EXIT_REWARD == 4

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_score_that_is_not_finite_is_refused_with_its_completion_made_harmless(self, value: float) -> None:
        with pytest.raises(UserError) as caught:
            judge(ROLLOUT, fixed([0.0, 0.0, 0.0, value]))
        assert caught.value.line() == f"scored {value} for the completion 'd\\n\\x1b' (reward=fixed)"
        assert caught.value.exit_code == EXIT_REWARD


class TestAgainst:
    """The reference beside the rollout."""

    def test_every_figure_is_that_of_full_distributions(self, moved: Policy) -> None:
        engine = TransformersEngine(moved)
        rollout = engine.sample(batch_of(moved, ["Hello there", "a"], samples=2), 6, 1.4, lambda: None)
        scored = against(rollout, torch.tensor([1.0, 2.0, 3.0, 4.0]), engine, 0.25, 3, lambda: None)
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
        found = [against(rollout, torch.ones(3), engine, 0.1, size, lambda: ticks.append(None)) for size in (1, 2, 5)]
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
        scored = against(rollout, torch.ones(2), engine, 0.1, 2, lambda: None)
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
        found = reread(rollout, engine, 3, lambda: ticks.append(None))
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
        assert float(reread(rollout, engine, 4, lambda: None).log_weights.abs().max()) < 1e-4


class TestPlacement:
    """What the rewards hold, by where the KL goes."""

    @pytest.fixture
    def rollout(self, moved: Policy) -> Rollout:
        self.engine = TransformersEngine(moved)
        return self.engine.sample(batch_of(moved, ["Hello there", "a"], samples=2), 6, 1.0, lambda: None)

    def against(self, rollout: Rollout, **changes: Any) -> Scored:
        return against(rollout, torch.ones(4), self.engine, 0.25, 3, lambda: None, **changes)

    def test_in_the_reward_it_is_k1(self, rollout: Rollout) -> None:
        scored = self.against(rollout)
        assert_close(scored.rewards.sum(1), 1 - 0.25 * scored.kl.sum(1))
        assert scored.ref_hidden is None

    def test_exact_it_is_the_whole_distributions(self, rollout: Rollout) -> None:
        scored = self.against(rollout, kl="exact")
        assert_close(scored.rewards.sum(1), 1 - 0.25 * scored.exact.kl.sum(1))
        keep = rollout.completion_mask
        expected = self.engine.hidden(rollout, torch.arange(4), reference=True)
        assert_close(scored.ref_hidden[keep], expected.detach(), rtol=0, atol=1e-5)

    def test_as_a_loss_it_leaves_the_rewards_alone(self, rollout: Rollout) -> None:
        assert_close(self.against(rollout, kl="loss_k2").rewards.sum(1), torch.ones(4))

    def test_between_measurements_only_k1_is_known(self, rollout: Rollout) -> None:
        measured, unmeasured = self.against(rollout), self.against(rollout, measure_exact=False)
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
