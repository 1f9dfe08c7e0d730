"""A step draws its rollout: one, or with prompts=dynamic as many as it takes to fill it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.errors import EXIT_REWARD, UserError
from rlhf_cli.pipeline.loop import stoppable
from rlhf_cli.pipeline.rollout import draw, next_prompts
from rlhf_cli.pipeline.run import Run, reusing_engine
from rlhf_cli.pipeline.scoring import score
from rlhf_cli.pipeline.skipping import Skip
from rlhf_cli.pipeline.state import TrainState
from rlhf_cli.pipeline.step import complete, skip
from rlhf_cli.pipeline.update import compute_gradient, update
from rlhf_cli.ranks.rollouts import select_prompts
from rlhf_cli.rewards.execution.scorer import Scores
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import Advantages, Rollout
from tests.unit.pipeline.runs import MakeRun
from tests.unit.support import build, move_adapter, tiny

SAME, OTHER = (1.0, 1.0), (0.0, 1.0)


def in_turn(*rollouts: tuple[float, ...], left_out: tuple[tuple[int, ...], ...] = ()) -> Callable[[Rollout], Scores]:
    """The scores of one rollout after the other; `left_out`: the prompts of each that have none."""

    def answer(scores: tuple[float, ...], missing: tuple[int, ...]) -> Scores:
        half = tuple(one / 2 for one in scores)
        return Scores(scores, frozenset(missing), {"half": half}, 2 * len(missing), 1, "none" if missing else None)

    answers = map(answer, rollouts, left_out or ((),) * len(rollouts))
    return lambda rollout: next(answers)


def dynamic(make_run: MakeRun, answer: Callable[[Rollout], Scores], **settings: Any) -> Run:
    """A run of two groups of two a step."""
    policy = build(tiny())
    move_adapter(policy)
    return make_run(policy, answer=answer, **({"prompts": "dynamic"} | settings))


def learn(run: Run, *, beta: float = 0.3) -> tuple[Advantages, Rollout, Scores]:
    """Draw and score a step."""
    rollout, answer = draw(run, 1.0)
    scored = score(run, rollout, answer, beta)
    return run.config.algorithm.advantages(scored, run.state.baseline), rollout, answer


def gradient_of(run: Run, advantages: Advantages, *, reuse: bool = False) -> dict[str, Tensor]:
    """The gradient of the step's first update."""
    rows = advantages.scored.learnable.nonzero().squeeze(1)
    compute_gradient(run, advantages, rows, 0, lambda: None, reuse=reuse)
    found = {name: parameter.grad.clone() for name, parameter in run.policy.parameters().items()}
    run.optimizer.zero_grad()
    return found


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Within 1e-5 of the largest component."""
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert largest > 1e-4
    for name, gradient in expected.items():
        assert_close(found[name], gradient, rtol=0, atol=1e-5 * largest)


class TestDraw:
    """The rollouts that a step draws: their number and their prompts."""

    def test_it_goes_on_until_enough_groups_differ(self, make_run: MakeRun) -> None:
        run = dynamic(make_run, in_turn(SAME + OTHER, SAME + SAME, OTHER + OTHER, OTHER + OTHER))
        run.state = TrainState(step=2, rollouts=5)
        rollout, answer = draw(run, 1.0)
        assert run.scorer.asked == [("step 3", seed_for(0, "reward", number)) for number in (5, 6, 7)]
        expected = [one for number in (5, 6, 7) for one in run.prompts.of_step(number, 2, 0)]
        assert [*rollout.batch.prompts] == expected
        assert rollout.batch.seeds == tuple(
            seed_for(0, "rollout", number, prompt, sample)
            for number in (5, 6, 7)
            for prompt in (0, 1)
            for sample in (0, 1)
        )
        assert answer.values == (*SAME, *OTHER, *SAME, *SAME, *OTHER, *OTHER)
        assert answer.parts["half"] == tuple(one / 2 for one in answer.values)
        assert (answer.retries, run.unfinished.retries, run.unfinished.rollouts) == (3, 3, 3)
        assert run.unfinished.length == pytest.approx(sum(rollout.lengths.tolist()) / 12)
        # the third group that differs is one too many
        learnable = score(run, rollout, answer, 0.1).learnable
        assert learnable.view(-1, 2).tolist() == [[n in (1, 4)] * 2 for n in range(6)]

    def test_a_full_step_ends_it_at_once(self, make_run: MakeRun) -> None:
        run = dynamic(make_run, in_turn(OTHER + OTHER))
        draw(run, 1.0)
        assert (len(run.scorer.asked), run.unfinished.rollouts) == (1, 1)

    def test_the_limit_ends_it(self, make_run: MakeRun) -> None:
        run = dynamic(make_run, in_turn(SAME + SAME, SAME + OTHER, OTHER + OTHER), max_rollouts=2)
        rollout, answer = draw(run, 1.0)
        assert len(run.scorer.asked) == 2
        assert score(run, rollout, answer, 0.1).learnable.tolist() == [False] * 6 + [True] * 2

    def test_prompts_without_scores_are_left_out_of_any_of_them(self, make_run: MakeRun) -> None:
        left_out = ((), (0, 1), (1,))
        run = dynamic(make_run, in_turn(OTHER + SAME, (), OTHER, left_out=left_out))
        rollout, answer = draw(run, 1.0)
        assert (answer.left_out, answer.failures, answer.first_failure) == ({2, 3, 5}, 6, "none")
        scored = score(run, rollout, answer, 0.1)
        prompts = [*run.prompts.of_step(0, 2, 0), run.prompts.of_step(2, 2, 0)[0]]
        assert [*scored.rollout.batch.prompts] == prompts
        assert scored.learnable.tolist() == [True, True, False, False, True, True]
        assert run.work.reporter.notes == ["step 1: 6 of 12 completions have no usable score; the first: none"]

    @pytest.mark.parametrize("prompts", ["uniform", "headroom"])
    def test_all_else_draws_once(self, prompts: str, make_run: MakeRun) -> None:
        run = dynamic(make_run, in_turn(SAME + SAME), prompts=prompts)
        run.state = TrainState(step=3, rollouts=7)  # as it was dynamic before
        rollout, _ = draw(run, 1.0)
        assert run.scorer.asked == [("step 4", seed_for(0, "reward", 3))]
        assert rollout.batch.seeds[0] == seed_for(0, "rollout", 3, 0, 0)


class TestState:
    """The cursor of the prompts."""

    def test_the_next_step_goes_on_behind_all_that_was_drawn(self, make_run: MakeRun) -> None:
        run = dynamic(make_run, in_turn(SAME + OTHER, OTHER + SAME))
        assert run.state.drawn == 0
        advantages, _, _ = learn(run)
        complete(run, advantages, update(run, advantages), None)
        assert (run.state.step, run.state.rollouts, run.unfinished.rollouts) == (1, 2, 0)
        assert next_prompts(run).prompts == run.prompts.of_step(2, 2, 0)

    def test_a_run_that_was_uniform_goes_on_behind_its_steps(self, make_run: MakeRun) -> None:
        run = dynamic(make_run, in_turn(OTHER + OTHER))
        run.state = TrainState(step=3)
        assert next_prompts(run).prompts == run.prompts.of_step(3, 2, 0)
        advantages, _, _ = learn(run)
        complete(run, advantages, update(run, advantages), None)
        assert (run.state.step, run.state.rollouts) == (4, 4)

    def test_without_it_there_is_no_cursor(self, make_run: MakeRun) -> None:
        run = dynamic(make_run, in_turn(OTHER + OTHER), prompts="uniform")
        advantages, _, _ = learn(run)
        complete(run, advantages, update(run, advantages), None)
        assert (run.state.rollouts, run.state.drawn) == (None, 1)


class TestNothing:
    """No group has different scores."""

    def skipped(self, run: Run) -> None:
        advantages, _, _ = learn(run)
        with pytest.raises(Skip) as caught:
            update(run, advantages)
        assert caught.value.exit_code == EXIT_REWARD
        complete(run, *skip(run, caught.value), None)

    def test_the_step_changes_nothing_and_says_so_and_other_prompts_come_next(self, make_run: MakeRun) -> None:
        run = dynamic(make_run, in_turn(SAME + SAME, SAME + SAME), max_rollouts=2)
        before = {name: parameter.detach().clone() for name, parameter in run.policy.parameters().items()}
        self.skipped(run)
        assert all(torch.equal(before[name], now) for name, now in run.policy.parameters().items())
        assert (run.state.step, run.state.skipped, run.state.rollouts, run.state.baseline.count) == (1, 1, 2, 0)
        (note,) = (note for note in run.work.reporter.notes if "completions were cut" not in note)
        assert note.startswith("step 1 changes nothing: none of 4 groups has different scores (max_rollouts=2): see ")
        (line,) = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
        assert (line["skipped"], line["reward/mean"], line["reward/same_in_group"]) == (1.0, 1.0, 1.0)
        assert (line["drawn/rollouts"], line["drawn/prompts"], line["drawn/kept_prompts"]) == (2, 4, 0)
        assert (line["drawn/kept_tokens"], line["advantage/rms"]) == (0, 0.0)
        assert line["drawn/tokens"] > 0

    def test_too_many_in_a_row_end_the_run(self, make_run: MakeRun) -> None:
        run = dynamic(make_run, in_turn(SAME + SAME, SAME + SAME), max_rollouts=1, max_skipped_steps=1)
        self.skipped(run)
        with pytest.raises(UserError, match="none of 2 groups") as caught:
            self.skipped(run)
        assert (caught.value.where, caught.value.exit_code) == ("max_skipped_steps", EXIT_REWARD)
        assert str(caught.value.fix).endswith("max_rollouts=... resume_allow=[max_rollouts]"), "as a resume takes it"

    def test_it_may_end_the_run_at_once_with_the_step_saved(self, make_run: MakeRun) -> None:
        run = dynamic(make_run, in_turn(SAME + SAME), max_rollouts=1, on_no_signal="stop")
        with pytest.raises(UserError, match=r"^step 1 learned nothing from the reward"), stoppable(run):
            self.skipped(run)
        assert (run.folder / "checkpoints" / "latest").read_text() == "step-00000001\n"
        assert run.work.reporter.notes[-1] == f"step 1 is saved; continue it by: rlhf train resume={run.folder}"

    def test_all_rollouts_without_a_score_count_their_tokens(self, make_run: MakeRun) -> None:
        """Two rollouts of two prompts with two completions each."""
        run = dynamic(make_run, in_turn((), (), left_out=((0, 1), (0, 1))), max_rollouts=2)
        rollout, answer = draw(run, 1.0)
        with pytest.raises(Skip) as caught:
            score(run, rollout, answer, 0.3)
        complete(run, *skip(run, caught.value), None)
        (line,) = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
        assert (line["skipped"], line["reward/failures"], line["drawn/rollouts"]) == (1.0, 8.0, 2.0)
        run.alarms.course.config = run.config.model_dump(mode="json")
        assert run.alarms.course.tokens == int(rollout.lengths.sum()) > 8


class TestMetrics:
    """The figures of a step: of all groups that it drew, or of the kept ones."""

    def test_reward_and_kl_are_of_all_groups_and_the_advantages_of_the_kept(self, make_run: MakeRun) -> None:
        run = dynamic(make_run, in_turn(SAME + OTHER, (*OTHER, 0.0, 3.0)))  # the last one is one too many
        advantages, rollout, _ = learn(run)
        complete(run, advantages, update(run, advantages), None)
        (line,) = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
        lengths, kept = rollout.lengths, advantages.scored.learnable
        assert (line["reward/mean"], line["reward/same_in_group"]) == (7 / 8, 1 / 4)
        assert line["kl/seq"] == pytest.approx(float(advantages.scored.distance.exact.kl.sum(1).mean()))
        assert line["completion/length"] == pytest.approx(float(lengths.double().mean()))
        assert (line["drawn/rollouts"], line["drawn/prompts"], line["drawn/kept_prompts"]) == (2, 4, 2)
        assert (line["drawn/tokens"], line["drawn/kept_tokens"]) == (int(lengths.sum()), int(lengths[kept].sum()))
        own = advantages.advantages[kept][rollout.completion_mask[kept]]
        assert line["advantage/rms"] == pytest.approx(float(own.square().mean().sqrt()))


@pytest.mark.parametrize(
    ("algorithm", "kl"),
    [
        ({"kind": "rloo"}, "reward"),
        ({"kind": "rloo"}, "exact"),
        (
            {"kind": "grpo", "scale_by_std": True, "clip_range": 0.2, "clip_range_high": 0.28}
            | {"aggregation": "token_mean", "epochs": 1, "minibatch_size": None},
            "loss_k2",
        ),
    ],
    ids=["rloo", "exact", "grpo"],
)
def test_the_gradient_is_that_of_the_kept_groups_by_the_ordinary_path(
    algorithm: dict[str, Any], kl: str, make_run: MakeRun
) -> None:
    run = dynamic(make_run, in_turn(SAME + OTHER, SAME + SAME, OTHER + OTHER), algorithm=algorithm, kl=kl)
    advantages, rollout, _ = learn(run)
    kept = select_prompts(rollout, [1, 4])
    plain = replace(run, config=run.config.model_copy(update={"prompts": "uniform"}))
    scored = score(plain, kept, Scores((*OTHER, *OTHER), frozenset(), {}, 0, 0, None), 0.3)
    alone = run.config.algorithm.advantages(scored, run.state.baseline)
    assert_near(gradient_of(run, advantages), gradient_of(plain, alone))


class TestReuse:
    """The forward pass of the rollout, taken by the first update."""

    def reusing(self, make_run: MakeRun, answer: Callable[[Rollout], Scores], **settings: Any) -> Run:
        run = dynamic(make_run, answer, reuse_forward=True, **settings)
        run.engine, run.state = NativeEngine(run.policy), TrainState(sampler_gap=0.0)
        return run

    def test_one_rollout_is_reused_also_where_it_is_not_full(self, make_run: MakeRun) -> None:
        run = self.reusing(make_run, in_turn(SAME + OTHER), max_rollouts=1)
        advantages, _, _ = learn(run)
        assert reusing_engine(run) is run.engine
        assert_near(gradient_of(run, advantages, reuse=True), gradient_of(run, advantages))
        assert update(run, advantages)["sampler/gap"] < 1e-4

    def test_several_are_not_and_the_first_is_forgotten(self, make_run: MakeRun) -> None:
        weights = []
        for reuse in (True, False):
            run = self.reusing(make_run, in_turn(SAME + OTHER, OTHER + SAME))
            run.config = run.config.model_copy(update={"reuse_forward": reuse})
            advantages, rollout, _ = learn(run)
            assert reusing_engine(run) is None
            with pytest.raises(ValueError, match="was not remembered"):
                run.engine.reuse(rollout, torch.tensor([0]))
            assert advantages.scored.distance.slopes == ()
            update(run, advantages)
            weights.append([parameter.detach().clone() for parameter in run.policy.parameters().values()])
        assert all(map(torch.equal, *weights))
