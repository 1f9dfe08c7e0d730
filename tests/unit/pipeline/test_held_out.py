"""Held-out evaluation: the same streams every time, whatever the batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from rlhf_cli.engine.reading import measure_distance
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.errors import EXIT_NONFINITE, EXIT_REWARD, UserError
from rlhf_cli.evaluation.evaluation import Completions, Evaluation, estimate_progress
from rlhf_cli.evaluation.optimum import LEAST
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.held_out import evaluate
from rlhf_cli.ranks import shards
from rlhf_cli.rewards.execution.scorer import Scores
from rlhf_cli.rewards.kinds.characters import Characters
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import Distance, PromptBatch, Rollout
from tests.unit.pipeline.runs import TEXTS, MakeRun, without
from tests.unit.support import SHAPING, batch_of, logits_of

REWARD = Characters(kind="characters", characters="abcdefghijklmnopqrstuvwxyz")
Evaluated = Callable[..., Evaluation]


def by_letters(rollout: Rollout) -> Scores:
    prompts = [rollout.batch.prompt_of(row).row for row in range(len(rollout.batch))]
    return Scores(tuple(REWARD.score(prompts, rollout.texts)), frozenset(), {}, 0, 0, None)


@pytest.fixture
def evaluated(make_run: MakeRun) -> Evaluated:
    """Evaluate a policy, or its reference in its place, on five prompts, `at_once` in a batch."""

    def of(
        policy: Policy,
        *,
        step: int = 0,
        at_once: int = 2,
        samples: int = 2,
        untouched: bool = False,
        answer: Callable[[Rollout], Scores] = by_letters,
        microbatch_size: int | None = None,
        **settings: Any,
    ) -> Evaluation:
        run = make_run(
            policy,
            answer=answer,
            algorithm={"kind": "reinforce", "baseline": "none"},
            reward=REWARD.model_dump() | SHAPING,
            evaluate={"every": 1, "prompts": 5, "samples": samples},
            prompts_per_step=at_once,
            microbatch_size=microbatch_size or (3 if samples < LEAST - 1 else 64),
            samples_per_prompt=1,
            max_new_tokens=6,
            **{"beta": {"kind": "constant", "value": 0.2}} | settings,
        )
        with policy.reference() if untouched else nullcontext():
            return evaluate(run, step)

    return of


def test_there_is_a_list_a_prompt_and_a_value_a_completion(policy: Policy, evaluated: Evaluated) -> None:
    found = evaluated(policy, step=8)
    assert (found.step, found.beta) == (8, 0.2)
    for column in (found.reward, found.kl, found.length, found.truncated, found.texts):
        assert [len(group) for group in column] == [2] * 5
    assert all(kl > 0 for group in found.kl for kl in group)
    rows = batch_of(policy, TEXTS).prompts
    scores = [REWARD.score([prompt.row] * 2, texts) for prompt, texts in zip(rows, found.texts, strict=True)]
    assert_close(torch.tensor(found.reward), torch.tensor(scores))


def test_the_texts_depend_on_neither_the_step_nor_the_batches(moved: Policy, evaluated: Evaluated) -> None:
    one = evaluated(moved, step=8)
    for change in ({"step": 20}, {"at_once": 1}, {"at_once": 5}, {"microbatch_size": 100}):
        other = evaluated(moved, **{"step": 8} | change)
        assert one.texts == other.texts, change
        assert one.length == other.length, change
        assert_close(torch.tensor(one.kl), torch.tensor(other.kl), rtol=0, atol=1e-4)


@pytest.mark.case(71)
def test_a_kl_that_is_not_finite_ends_the_run_before_it_is_written(
    policy: Policy, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*arguments: Any, **options: Any) -> Distance:
        found = measure_distance(*arguments, **options)
        return replace(found, exact=None, kl=found.kl.index_fill(0, torch.tensor([1]), torch.inf))

    monkeypatch.setattr(shards, "measure_distance", measure)
    with pytest.raises(UserError) as caught:
        evaluated(policy, step=3)
    assert caught.value.exit_code == EXIT_NONFINITE == 7
    assert caught.value.what == "the KL of a held-out completion is not finite after step 3"


def test_a_log_probability_that_is_not_finite_ends_the_run_before_its_first_step(
    policy: Policy, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(*arguments: Any, **options: Any) -> Rollout:
        found = sample_shard(*arguments, **options)
        return replace(found, logprobs=found.logprobs.index_fill(0, torch.tensor([1]), torch.nan))

    sample_shard = shards.sample_shard
    monkeypatch.setattr(shards, "sample_shard", sample)
    with pytest.raises(UserError) as caught:
        evaluated(policy)
    assert caught.value.exit_code == EXIT_NONFINITE == 7
    assert caught.value.what == "the log-probability of a held-out completion is not finite after step 0"
    assert caught.value.fix == "take dtype=float32"


def test_the_untouched_policy_is_not_read_by_the_reference(
    policy: Policy, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = evaluated(policy, step=3, untouched=True)

    def measure(*_arguments: Any, **_options: Any) -> Distance:
        raise AssertionError("the reference reads")

    monkeypatch.setattr(shards, "measure_distance", measure)
    known = evaluated(policy, untouched=True)
    assert known.texts == read.texts
    assert known.kl == [[0.0, 0.0]] * 5
    assert known.ref_logprob == known.logprob
    assert_close(torch.tensor(known.ref_logprob), torch.tensor(read.ref_logprob), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("off", "passes"), [(0.0, 1), (0.1, 3)])
def test_the_trainer_reads_all_batches_only_where_the_sampler_differs(
    off: float, passes: int, policy: Policy, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def sample(*arguments: Any, **options: Any) -> Rollout:
        found = sample_shard(*arguments, **options)
        return replace(found, logprobs=found.logprobs + off * found.completion_mask)

    def recompute(policy: Policy, engine: Any, rollout: Rollout, *rest: Any, **options: Any) -> tuple[Rollout, Any]:
        read.append(len(rollout.batch))
        return recompute_shard(policy, engine, rollout, *rest, **options)

    sample_shard, recompute_shard = shards.sample_shard, shards.recompute_shard
    monkeypatch.setattr(shards, "sample_shard", sample)
    monkeypatch.setattr(shards, "recompute_shard", recompute)
    found = evaluated(policy, samples=3, at_once=4)
    # five prompts in batches of four and one; of the first batch two prompts are compared, six of eight completions
    assert read == [6, 12, 3][:passes]
    plain = torch.tensor([sum(group) for group in found.logprob])
    monkeypatch.undo()
    assert_close(plain, torch.tensor([sum(group) for group in evaluated(policy, samples=3, at_once=4).logprob]))


def test_the_texts_depend_on_the_seed(policy: Policy, evaluated: Evaluated) -> None:
    assert evaluated(policy).texts != evaluated(policy, seed=1).texts


def test_the_reference_has_no_kl(moved: Policy, evaluated: Evaluated) -> None:
    found = evaluated(moved, untouched=True)
    assert max(kl for group in found.kl for kl in group) < 1e-4


def log_probability(policy: Policy, prompt: str, text: str, length: int) -> float:
    """Of `text` after `prompt`, by a plain pass of the library; the tiny model's tokens are bytes."""
    before, written = (list(policy.tokenizer(one)["input_ids"]) for one in (prompt, text))
    if len(written) < length:
        written.append(policy.end_tokens[0])
    chosen = torch.log_softmax(logits_of(policy, before + written)[len(before) - 1 : -1], -1)
    return float(chosen[range(len(written)), written].sum())


def test_log_probabilities_are_of_whole_completions_under_both(moved: Policy, evaluated: Evaluated) -> None:
    found = evaluated(moved, step=3, samples=LEAST)
    assert found.reference is not None
    checked = 0
    for number, prompt in enumerate(TEXTS):
        for i, text in enumerate(found.texts[number]):
            # A text whose bytes were no UTF-8 does not tell its tokens.
            if not text.isascii() or len(text) + (not found.truncated[number][i]) != found.length[number][i]:
                continue
            expected = log_probability(moved, prompt, text, found.length[number][i])
            assert found.logprob[number][i] == pytest.approx(expected, abs=1e-3)
            with moved.reference():
                expected = log_probability(moved, prompt, text, found.length[number][i])
            assert found.ref_logprob[number][i] == pytest.approx(expected, abs=1e-3)
            checked += 1
    assert checked > 3


@pytest.mark.parametrize("samples", [2, LEAST])
def test_a_sampler_that_rounds_is_read_again_by_the_trainer(
    moved: Policy, evaluated: Evaluated, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = evaluated(moved, step=3, samples=samples)
    sample = TransformersEngine.sample

    def rounding(engine: TransformersEngine, *arguments: Any, **named: Any) -> Rollout:
        rollout = sample(engine, *arguments, **named)
        return replace(rollout, logprobs=rollout.logprobs - 0.1, hidden=rollout.hidden * 1.05)

    monkeypatch.setattr(TransformersEngine, "sample", rounding)
    found = evaluated(moved, step=3, samples=samples)
    for name in ("kl", "logprob", "ref_logprob"):
        assert_close(torch.tensor(getattr(found, name)), torch.tensor(getattr(honest, name)), rtol=0, atol=1e-4)
    if honest.reference is not None and found.reference is not None:
        for name in ("logprob", "ref_logprob"):
            one, other = (torch.tensor(getattr(e.reference, name)) for e in (found, honest))
            assert_close(one, other, rtol=0, atol=1e-4)


def test_the_reference_writes_from_the_same_streams(moved: Policy, evaluated: Evaluated) -> None:
    found = evaluated(moved, step=3, samples=LEAST)
    untouched = evaluated(moved, samples=LEAST, untouched=True)
    assert found.reference is not None
    assert found.reference.reward == untouched.reward
    assert_close(torch.tensor(found.reference.ref_logprob), torch.tensor(untouched.logprob), rtol=0, atol=1e-4)
    # What the policy makes of the reference's completions is less than what the reference does, in the mean: a KL.
    gap = torch.tensor(found.reference.ref_logprob) - torch.tensor(found.reference.logprob)
    assert gap.mean() > 0.01


@pytest.mark.parametrize(("step", "written"), [(0, [3, 3]), (1, [6, 3])])
def test_the_reference_writes_nothing_twice(
    moved: Policy, make_run: MakeRun, step: int, written: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, batches = TransformersEngine.sample, []

    def noted(engine: TransformersEngine, batch: PromptBatch, *arguments: Any, **named: Any) -> Rollout:
        batches.append(batch)
        return sample(engine, batch, *arguments, **named)

    monkeypatch.setattr(TransformersEngine, "sample", noted)
    run = make_run(moved, evaluate={"every": 1, "prompts": 5, "samples": LEAST}, prompts_per_step=2, max_new_tokens=6)
    found, counts = [], []
    for _ in written:
        batches.clear()
        found.append(evaluate(run, step))  # five prompts, two at once
        counts.append(len(batches))
    assert counts == written
    assert found[0] == found[1]


def test_before_the_first_step_the_policy_is_the_reference(moved: Policy, evaluated: Evaluated) -> None:
    found = evaluated(moved, samples=LEAST, untouched=True, beta={"kind": "constant", "value": 2.0})
    assert found.reference == Completions(found.reward, found.logprob, found.ref_logprob)
    assert found.optimum.gain == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"samples": LEAST - 1}, "needs at least 21 samples a prompt (evaluate.samples=20)"),
        ({"samples": LEAST, "beta": {"kind": "constant", "value": 0.0}}, "beta is 0"),
        ({"samples": LEAST, "temperature": {"kind": "constant", "value": 1.3}}, "trained at T = 1.3, evaluated at 1"),
        ({"samples": LEAST, "top_k": 5}, "trained on a truncated policy, evaluated on the whole"),
    ],
)
@pytest.mark.parametrize("step", [0, 3])
def test_the_reference_writes_nothing_where_that_would_say_nothing(
    policy: Policy, evaluated: Evaluated, step: int, change: dict[str, Any], reason: str
) -> None:
    found = evaluated(policy, step=step, **change)
    assert found.reference is None
    assert (found.optimum.reason, found.optimum.percent, found.optimum.gain) == (reason, None, None)


def test_the_percentage_is_of_the_completions_that_were_kept(policy: Policy, evaluated: Evaluated) -> None:
    found = evaluated(policy, step=3, samples=64, beta={"kind": "constant", "value": 1.0})
    assert found.reference is not None
    policy = Completions(found.reward, found.logprob, found.ref_logprob)
    expected = estimate_progress(policy, found.reference, found.kl, 1.0, REWARD.highest)
    assert found.optimum == expected
    assert found.optimum.gain is not None
    assert found.optimum.bound is not None


@pytest.mark.parametrize(("at_once", "samples"), [(1, 2), (2, LEAST), (5, 2)])
def test_prompts_without_scores_are_left_out(policy: Policy, evaluated: Evaluated, at_once: int, samples: int) -> None:
    whole = evaluated(policy, step=3, samples=samples, at_once=at_once)
    found = evaluated(policy, step=3, samples=samples, at_once=at_once, answer=without(by_letters, "a", "xyz"))
    kept = [0, 2, 4]
    assert (found.prompts, whole.prompts) == (kept, [0, 1, 2, 3, 4])
    assert found.failures == 2 * samples * (1 if found.reference is None else 2)
    expected = whole.of(kept)
    for name in ("reward", "kl", "length", "truncated", "texts", "logprob", "ref_logprob"):
        assert getattr(found, name) == getattr(expected, name), name
    if found.reference is not None and whole.reference is not None:
        assert found.reference.reward == [whole.reference.reward[place] for place in kept]
        assert len(found.reference.logprob) == len(found.reference.ref_logprob) == 3


def test_a_prompt_that_only_the_references_completions_fail_at_is_left_out_too(
    policy: Policy, evaluated: Evaluated
) -> None:
    calls: list[int] = []

    def answer(rollout: Rollout) -> Scores:
        start = TEXTS.index(rollout.batch.prompts[0].text)
        calls.append(start)
        # the policy's completions of a batch are scored first, the reference's second
        return (by_letters if calls.count(start) == 1 else without(by_letters, "a"))(rollout)

    found = evaluated(policy, step=3, samples=LEAST, answer=answer)
    assert calls == [0, 0, 2, 2, 4, 4]
    assert found.prompts == [0, 2, 3, 4]
    assert found.reference is not None
    assert len(found.reward) == len(found.reference.reward) == 4


def test_the_reward_is_asked_with_a_seed_of_the_prompts_and_fails_in_one_note(
    policy: Policy, make_run: MakeRun
) -> None:
    run = make_run(policy, answer=without(by_letters, "a", "xyz"), evaluate={"every": 1, "prompts": 5, "samples": 2})
    evaluate(run, 6)  # four prompts at once
    assert run.scorer.asked == [("step 6, held-out", seed_for(0, "reward/held_out", start)) for start in (0, 4)]
    assert run.work.reporter.notes == ["step 6: 4 of 8 completions have no usable score; the first: f gave None"]
    assert run.work.reporter.phases == ["evaluation"]


def test_an_evaluation_needs_two_prompts(policy: Policy, evaluated: Evaluated) -> None:
    assert evaluated(policy, answer=without(by_letters, *TEXTS[:3])).prompts == [3, 4]
    with pytest.raises(UserError) as caught:
        evaluated(policy, answer=without(by_letters, *TEXTS[:4]))
    assert caught.value.what == "1 of 5 held-out prompts are left: 8 completions without a score"
    assert caught.value.exit_code == EXIT_REWARD


def test_trials_of_a_sweep_evaluate_the_untouched_policy_once(
    tmp_path: Path, evaluated: Evaluated, policy: Policy
) -> None:
    """Every number is the one that the trial would have found itself, whatever its beta."""
    asked: list[int] = []

    def answer(rollout: Rollout) -> Scores:
        asked.append(1)
        return by_letters(rollout)

    weak = {"kind": "constant", "value": 0.01}
    alone = [evaluated(policy, untouched=True, samples=LEAST, **own) for own in ({}, {"beta": weak})]
    (tmp_path / "sweep.json").write_text("{}")
    shared = [
        evaluated(policy, untouched=True, samples=LEAST, answer=answer, **own) for own in ({}, {"beta": weak}, {})
    ]
    assert [one.row() for one in shared] == [one.row() for one in (*alone, alone[0])]
    assert len(asked) == 3  # batches of one evaluation
    # not where the policy has learnt, nor where another draws
    assert evaluated(policy, step=1, answer=answer).step == 1
    assert len(asked) == 6
    evaluated(policy, untouched=True, samples=LEAST, answer=answer, seed=1)
    assert len(asked) == 9


def test_an_evaluation_with_failures_is_not_shared(tmp_path: Path, evaluated: Evaluated, policy: Policy) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    failing = evaluated(policy, untouched=True, answer=without(by_letters, TEXTS[0]))
    assert (failing.failures, failing.prompts) == (2, [1, 2, 3, 4])
    assert evaluated(policy, untouched=True).prompts == [0, 1, 2, 3, 4]
