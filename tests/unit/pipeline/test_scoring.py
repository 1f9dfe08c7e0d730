"""From a rollout to scores and rewards."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.placement import Placement, penalty
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.errors import EXIT_NONFINITE, EXIT_REWARD, UserError
from rlhf_cli.functional.returns import token_rewards
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.functional.truncation import NO_TRUNCATION, Truncation
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.rollout import draw, next_prompts
from rlhf_cli.pipeline.run import Run
from rlhf_cli.pipeline.scoring import (
    drop_unscored,
    group_scores,
    group_variances,
    learnable_mask,
    score,
)
from rlhf_cli.pipeline.skipping import Skip
from rlhf_cli.pipeline.state import TrainState
from rlhf_cli.ranks.rollouts import select_prompts
from rlhf_cli.rewards.execution.scorer import Scores
from rlhf_cli.rewards.shaping import Spread
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import PromptBatch, Rollout, Scored
from tests.unit.pipeline.runs import TEXTS, MakeRun, by_length, ppo_fields, without
from tests.unit.support import SHAPING, batch_of, build, rollout_of, scored_of, tiny

ROLLOUT = rollout_of([[1, 1], [1, 0], [1, 1], [1, 1]], samples=2, texts=["a", "b", "", "d\n\x1b"])


class TestUnscored:
    """Prompts that have no scores."""

    def test_where_all_have_scores_nothing_is_left_out(self) -> None:
        assert drop_unscored(ROLLOUT, Scores((1.0, -2.5, 0.0, 3.0), frozenset(), {}, 0, 0, None)) is ROLLOUT

    def test_a_prompt_without_scores_is_left_out_with_its_completions(self) -> None:
        rollout = drop_unscored(ROLLOUT, Scores((0.5, 3.0), frozenset({0}), {}, 1, 0, "the first"))
        assert rollout.texts == ("", "d\n\x1b")

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
        found = group_scores(Scores(values, frozenset(left_out), {}, 0, 0, None), ROLLOUT)
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

    def test_where_none_counts_the_step_is_skipped_and_its_failures_are_counted(
        self, policy: Policy, make_run: MakeRun
    ) -> None:
        reward = {"kind": "characters", "characters": "abc"} | SHAPING | {"truncated": "mask"}
        run = make_run(policy, prompts_per_step=3, reward=reward)
        run.scorer.answer = without(by_length, next_prompts(run).prompts[1].text)
        rollout, answer = draw(run, 1.0)
        cut = replace(rollout, truncated=torch.ones_like(rollout.truncated))
        with pytest.raises(Skip, match=r"no group has enough completions that ended") as caught:
            score(run, cut, answer, 0.1)
        assert (caught.value.exit_code, caught.value.failures) == (EXIT_REWARD, 2)


class TestWithout:
    """Prompts that are taken out of a rollout leave no trace."""

    @pytest.mark.parametrize("truncation", [NO_TRUNCATION, Truncation(top_k=9, top_p=0.9, min_p=0.0)])
    def test_it_is_the_rollout_of_the_others_alone(self, moved: Policy, truncation: Truncation) -> None:
        engine, sampling = TransformersEngine(moved), Sampling(12, 1.3, truncation)
        batch = batch_of(moved, ["Hello there", "a", "What is rain?"], samples=2)
        one = engine.sample(batch, sampling, lambda: None)
        for dropped in ({0}, {1}, {2}, {0, 2}, set[int]()):
            kept = [number for number in range(3) if number not in dropped]
            seeds = tuple(batch.seeds[2 * number + sample] for number in kept for sample in range(2))
            alone = PromptBatch(tuple(batch.prompts[number] for number in kept), 2, seeds)
            other, found = engine.sample(alone, sampling, lambda: None), select_prompts(one, kept)
            assert found.batch == other.batch
            assert (found.texts, found.temperature) == (other.texts, other.temperature)
            for name in ("tokens", "completion_mask", "truncated"):
                assert torch.equal(getattr(found, name), getattr(other, name)), (dropped, name)
            for name in ("logprobs", "hidden"):  # another width of the batch may round otherwise
                assert_close(getattr(found, name), getattr(other, name), rtol=0, atol=1e-4)
            if one.kept is None or other.kept is None or found.kept is None:
                assert one.kept is other.kept is found.kept is None
            else:
                assert torch.equal(found.kept.ids, other.kept.ids)
                assert torch.equal(found.kept.offsets, other.kept.offsets)

    def test_what_is_left_is_no_wider_than_its_longest_completion(self) -> None:
        rollout = rollout_of([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]])
        found = select_prompts(rollout, [1, 2])
        assert found.completion_mask.int().tolist() == [[1, 0], [1, 1]]
        assert (found.logprobs.shape, found.hidden.shape) == ((2, 2), (2, 2, 1))


def scored_in(run: Run, beta: float = 0.25, temperature: float = 1.0) -> Scored:
    """A rollout of the run, scored."""
    return score(run, *draw(run, temperature), beta)


class TestScore:
    """The whole stage."""

    def test_scores_and_parts_are_those_of_the_kept_completions(self, policy: Policy, make_run: MakeRun) -> None:
        def answer(rollout: Rollout) -> Scores:
            whole = by_length(rollout)
            return replace(whole, parts={"half": tuple(value / 2 for value in whole.values)})

        scored = scored_in(make_run(policy, answer=answer, prompts_per_step=3))
        assert len(scored.rollout.batch) == 6
        assert (scored.scores.tolist(), scored.scores.dtype) == (scored.rollout.lengths.tolist(), torch.float32)
        assert scored.parts["half"].tolist() == [score / 2 for score in scored.scores.tolist()]
        assert (scored.beta, scored.failures, scored.learnable.tolist()) == (0.25, 0, [True] * 6)

    def test_the_reward_is_asked_once_with_a_seed_of_the_step(self, policy: Policy, make_run: MakeRun) -> None:
        run = make_run(policy, answer=lambda rollout: replace(by_length(rollout), retries=2))
        run.state = TrainState(step=4)
        scored_in(run)
        assert run.scorer.asked == [("step 5", seed_for(0, "reward", 4))]
        assert run.unfinished.retries == 2

    def test_prompts_without_scores_are_left_out_and_noted_once_a_step(self, policy: Policy, make_run: MakeRun) -> None:
        run = make_run(policy, prompts_per_step=3)
        first, *others = (prompt.text for prompt in next_prompts(run).prompts)
        run.scorer.answer = without(by_length, first)
        scored = scored_in(run)
        assert [prompt.text for prompt in scored.rollout.batch.prompts] == others
        assert (len(scored.scores), scored.failures) == (4, 2)
        scored_in(run)
        note = "step 1: 2 of 6 completions have no usable score; the first: f gave None"
        assert run.work.reporter.notes == [note]

    def test_what_the_reward_has_to_say_is_noted(self, policy: Policy, make_run: MakeRun) -> None:
        run = make_run(policy)
        run.scorer.notes = ["it reads 8 tokens"]
        scored_in(run)
        scored_in(run)
        assert run.work.reporter.notes == ["it reads 8 tokens"]

    def test_where_every_prompt_is_left_out_the_step_is_skipped(self, policy: Policy, make_run: MakeRun) -> None:
        run = make_run(policy, answer=without(by_length, *TEXTS))
        with pytest.raises(Skip):
            scored_in(run)
        assert run.work.reporter.notes == []

    @pytest.mark.parametrize("baseline", ["mean", "running"])
    def test_a_single_completion_is_nothing_beside_its_own_mean(
        self, baseline: str, policy: Policy, make_run: MakeRun
    ) -> None:
        run = make_run(policy, algorithm={"kind": "reinforce", "baseline": baseline}, samples_per_prompt=1)
        run.scorer.answer = without(by_length, next_prompts(run).prompts[1].text)
        if baseline == "running":
            assert len(scored_in(run).scores) == 1
            return
        with pytest.raises(Skip) as caught:
            scored_in(run)
        assert caught.value.reason == (
            "one completion alone has a score, and the mean of one cancels it; the first failure: f gave None"
        )
        assert (caught.value.exit_code, caught.value.failures) == (EXIT_REWARD, 1)

    def test_in_the_reward_the_kl_is_k1(self, policy: Policy, make_run: MakeRun) -> None:
        scored = scored_in(make_run(policy))
        assert_close(scored.returns, scored.scores - 0.25 * scored.distance.kl.sum(1))
        assert scored.distance.ref_hidden is None

    def test_exact_it_is_that_of_the_whole_distributions(self, policy: Policy, make_run: MakeRun) -> None:
        scored = scored_in(make_run(policy, kl="exact"))
        assert_close(scored.returns, scored.scores - 0.25 * scored.distance.exact.kl.sum(1))
        assert scored.distance.ref_hidden.shape == scored.rollout.hidden.shape

    def test_as_a_loss_it_leaves_the_rewards_alone(self, policy: Policy, make_run: MakeRun) -> None:
        assert_close(scored_in(make_run(policy, kl="loss_k2")).returns, torch.tensor(1.0).expand(4) * 8)

    def test_the_exact_kl_is_measured_where_it_is_due(self, policy: Policy, make_run: MakeRun) -> None:
        run = make_run(policy, exact_kl_every=3, steps=4)
        measured = []
        for step in range(4):
            run.state = TrainState(step=step)
            measured.append(scored_in(run).distance.exact is not None)
        assert measured == [False, False, True, True]  # the third step, and the last one

    def test_normalised_scores_are_learned_from(self, policy: Policy, make_run: MakeRun) -> None:
        scores = (1.0, 2.0, 3.0, 6.0)
        run = make_run(
            policy,
            answer=lambda rollout: Scores(scores, frozenset(), {}, 0, 0, None),
            reward={"kind": "characters", "characters": "abc"} | SHAPING | {"normalise": True},
        )
        run.state = TrainState(spread=Spread().observe([0.0, 4.0]))
        scored = scored_in(run, beta=0.0)
        past = torch.tensor([0.0, 4.0, *scores], dtype=torch.float64)
        expected = (torch.tensor(scores) - past.mean()) / (past.std(correction=0) + 1e-4)
        assert_close(scored.returns, expected.float())
        assert scored.scores.tolist() == list(scores)
        assert run.state.spread.count == 2  # the step is not complete

    def test_normalised_scores_that_differ_by_rounding_teach_nothing(self, policy: Policy, make_run: MakeRun) -> None:
        """Near their mean they were 0 and 4.8e-7: not alike, so a step of full size was taken for the difference."""
        run = make_run(
            policy,
            answer=lambda rollout: Scores((-8.0, -7.9999995, -8.0, -7.0), frozenset(), {}, 0, 0, None),
            reward={"kind": "characters", "characters": "abc"} | SHAPING | {"normalise": True},
        )
        run.state = TrainState(spread=Spread().observe([-8.5, -7.5]))
        learned = run.config.algorithm.advantages(scored_in(run, beta=0.0), RunningMean()).advantages[:, 0]
        assert learned[:2].tolist() == [0.0, 0.0]
        assert learned[2:].all()

    def test_nor_does_a_batch_of_them_where_all_of_it_is_compared(self, policy: Policy, make_run: MakeRun) -> None:
        run = make_run(
            policy,
            answer=lambda rollout: Scores((-8.0, -8.0, -7.9999995, -7.9999995), frozenset(), {}, 0, 0, None),
            reward={"kind": "characters", "characters": "abc"} | SHAPING | {"normalise": True},
            algorithm={"kind": "reinforce", "baseline": "mean"},
        )
        run.state = TrainState(spread=Spread().observe([-8.5, -7.5]))
        assert not run.config.algorithm.advantages(scored_in(run, beta=0.0), RunningMean()).advantages.any()

    def test_values_are_read_where_the_algorithm_needs_them(self, make_run: MakeRun) -> None:
        policy = build(tiny(), value_head=True)
        assert scored_in(make_run(policy)).values is None
        values = scored_in(make_run(policy, algorithm=ppo_fields())).values
        assert values.shape == (4, 8)

    @pytest.mark.parametrize(("gap", "compared"), [(None, True), (0.02, True), (0.001, False)])
    def test_sampler_and_trainer_are_compared_until_they_agree(
        self, gap: float | None, compared: bool, policy: Policy, make_run: MakeRun
    ) -> None:
        run = make_run(policy)
        run.state = TrainState(sampler_gap=gap)
        scored = scored_in(run)
        assert (scored.log_weights is not None) == compared
        assert ("trainer" in run.work.reporter.phases) == compared

    @pytest.mark.parametrize(("off", "notes"), [(0.1, 0), (1.5, 1)])
    def test_a_sampler_that_drifts_is_noted(self, off: float, notes: int, policy: Policy, make_run: MakeRun) -> None:
        run = make_run(policy)
        rollout, scores = draw(run, 1.0)
        logprobs = rollout.logprobs.clone()
        logprobs[0, 0] -= off
        score(run, replace(rollout, logprobs=logprobs), scores, 0.1)
        assert len(run.work.reporter.notes) == notes
        if notes:  # weights e^1.5, 1, 1, 1: 7.48^2 / (4 * 23.1)
            assert run.work.reporter.notes == [
                "step 1: sampler and trainer disagree by up to 1.5 nats a completion: 61% of the samples are left "
                "after weighting"
            ]

    def test_a_sampler_that_is_another_policy_ends_the_run(self, policy: Policy, make_run: MakeRun) -> None:
        run = make_run(policy)
        rollout, scores = draw(run, 1.0)
        logprobs = rollout.logprobs.clone()
        logprobs[0, 0] -= 4
        with pytest.raises(UserError, match=r"^sampler and trainer disagree by up to 4 nats") as caught:
            score(run, replace(rollout, logprobs=logprobs), scores, 0.1)
        assert caught.value.exit_code == EXIT_NONFINITE


@pytest.mark.parametrize("kl", ["reward", "loss_k2"])
def test_a_group_shows_the_variance_of_its_rewards_less_the_sampled_kl_wherever_that_is(kl: Placement) -> None:
    """Scores 1 and 3, log ratios of 0.5 and -0.5 nats, beta 2: r - beta k1 is 0 and 4."""
    rollout = rollout_of([[1, 1], [1, 0]], samples=2)
    rollout = replace(rollout, batch=replace(rollout.batch, draws=((7, 0.5),)))
    far = rollout.logprobs - torch.tensor([[0.2, 0.3], [-0.5, 0.0]])
    scored = scored_of(rollout, [1.0, 3.0], ref_logprobs=far, beta=2.0)
    rewards = token_rewards(scored.scores, penalty(scored.distance, kl), 2.0, rollout.completion_mask)
    assert group_variances(replace(scored, rewards=rewards), kl) == [(7, pytest.approx(8.0), 0.5)]
