"""The gradient of a whole rollout does not depend on how it is cut, and a bad one is not taken."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.placement import Placement
from rlhf_cli.algorithms.ppo import Ppo
from rlhf_cli.algorithms.reinforce import Reinforce
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.engine.kernels import is_faster_packed
from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.functional.logprobs import token_logprobs
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.run import Run
from rlhf_cli.pipeline.update import (
    NotFinite,
    apply,
    check_finite,
    compute_gradient,
    keeps_shards,
    split_rollout,
    summarise,
    update_size,
)
from rlhf_cli.ranks.gradient import accumulate_gradient
from rlhf_cli.types import Advantages, Forward, LossResult, Minibatch, PromptBatch, Rollout, Scored
from tests.unit.pipeline.runs import MakeRun, ppo_fields
from tests.unit.support import batch_of, build, move_adapter, scored_by, tiny

TEXTS, SAMPLES, ROWS = ("Hello there", "a", "What is rain?"), 2, 6
SCORES = torch.tensor([1.0, -0.5, 0.3, 2.0, 0.0, -1.0])
RLOO, REINFORCE = Rloo(kind="rloo"), Reinforce(kind="reinforce", baseline="mean")


def ppo(**changes: Any) -> Ppo:
    return Ppo.model_validate(ppo_fields(**changes))


def nothing() -> None:
    """A tick that nobody counts."""


@pytest.fixture(params=["llama", "gpt2"])
def policy(request: pytest.FixtureRequest) -> Policy:
    made = build(tiny(request.param))
    move_adapter(made)
    return made


def scored_rollout(policy: Policy, temperature: float = 1.2) -> Scored:
    engine = TransformersEngine(policy)
    rollout = engine.sample(batch_of(policy, TEXTS, SAMPLES), Sampling(7, temperature), nothing)
    return scored_by(engine, rollout, SCORES, 0.3)


def gradient(
    policy: Policy, scored: Scored, algorithm: Algorithm, size: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The adapter's gradient for the rollout, and what accumulate returned."""
    advantages = algorithm.advantages(scored, RunningMean())
    logged = learn(policy, advantages, algorithm, size)
    gradients = {name: parameter.grad.clone() for name, parameter in policy.parameters().items()}
    for parameter in policy.parameters().values():
        parameter.grad = None
    return gradients, logged


def learn(
    policy: Policy, advantages: Advantages, algorithm: Algorithm, size: int, tick: Callable[[], None] = nothing
) -> dict[str, float]:
    """accumulate over the whole rollout."""
    rows, engine = torch.arange(len(advantages.advantages)), TransformersEngine(policy)
    return accumulate_gradient(
        advantages, rows, algorithm, engine, kl="reward", max_new_tokens=7, microbatch_size=size, tick=tick
    )


def assert_same_gradient(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Within 1e-5 of the largest component."""
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert largest > 1e-3
    for name, gradient in expected.items():
        assert_close(found[name], gradient, rtol=0, atol=1e-5 * largest, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("algorithm", [RLOO, REINFORCE], ids=["rloo", "reinforce"])
def test_the_gradient_does_not_depend_on_the_microbatch_size(policy: Policy, algorithm: Algorithm) -> None:
    scored = scored_rollout(policy)
    expected, logged = gradient(policy, scored, algorithm, ROWS)
    for size in (1, 2, 3, 4, 100):
        found, other = gradient(policy, scored, algorithm, size)
        assert_same_gradient(found, expected)
        assert other["loss"] == pytest.approx(logged["loss"], abs=1e-5)


def test_the_gradient_is_that_of_the_plain_formula(policy: Policy) -> None:
    scored = scored_rollout(policy)
    found, logged = gradient(policy, scored, RLOO, 2)
    rollout, advantages = scored.rollout, RLOO.advantages(scored, RunningMean()).advantages
    loss = torch.zeros(())
    for row in range(ROWS):
        prompt, mask = list(rollout.batch.prompt_of(row).tokens), rollout.completion_mask[row]
        completion = rollout.tokens[row][mask].tolist()
        logits = policy.causal(input_ids=torch.tensor([prompt + completion]), use_cache=False).logits[
            0, len(prompt) - 1 : -1
        ]
        logprobs = torch.log_softmax(logits / rollout.temperature, -1)[torch.arange(len(completion)), completion]
        loss = loss - (advantages[row][mask] * logprobs).sum() / ROWS
    loss.backward()
    assert logged["loss"] == pytest.approx(float(loss.detach()), abs=1e-4)
    expected = {name: parameter.grad for name, parameter in policy.parameters().items()}
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, plain in expected.items():
        assert_close(found[name], plain, rtol=0, atol=1e-4 * largest)


def reordered(rollout: Rollout, groups: list[int]) -> tuple[Rollout, list[int]]:
    """The rollout with its groups in another order, and the rows they came from."""
    rows = [group * SAMPLES + sample for group in groups for sample in range(SAMPLES)]
    batch = PromptBatch(
        tuple(rollout.batch.prompts[group] for group in groups),
        SAMPLES,
        tuple(rollout.batch.seeds[row] for row in rows),
    )
    return (
        Rollout(
            batch,
            rollout.tokens[rows],
            rollout.completion_mask[rows],
            rollout.logprobs[rows],
            rollout.hidden[rows],
            rollout.truncated[rows],
            tuple(rollout.texts[row] for row in rows),
            rollout.temperature,
            None,
        ),
        rows,
    )


@pytest.mark.parametrize("algorithm", [RLOO, REINFORCE], ids=["rloo", "reinforce"])
@pytest.mark.parametrize("groups", [[2, 0, 1], [1, 0, 2]], ids=str)
def test_the_gradient_does_not_depend_on_the_order_of_the_groups(
    policy: Policy, algorithm: Algorithm, groups: list[int]
) -> None:
    scored = scored_rollout(policy)
    expected, _ = gradient(policy, scored, algorithm, 4)
    rollout, rows = reordered(scored.rollout, groups)
    other = scored_by(TransformersEngine(policy), rollout, SCORES[rows], 0.3)
    found, _ = gradient(policy, other, algorithm, 4)
    assert_same_gradient(found, expected)


def test_the_sampler_and_this_pass_agree(policy: Policy) -> None:
    _, logged = gradient(policy, scored_rollout(policy), RLOO, 3)
    assert 0 <= logged["sampler/gap"] < 1e-3


def test_a_policy_that_moved_since_it_sampled_shows_a_gap(policy: Policy) -> None:
    scored = scored_rollout(policy)
    move_adapter(policy, seed=6)
    _, logged = gradient(policy, scored, RLOO, 3)
    assert logged["sampler/gap"] > 0.05


def test_tick_is_called_once_a_microbatch(policy: Policy) -> None:
    advantages, ticks = RLOO.advantages(scored_rollout(policy), RunningMean()), []
    learn(policy, advantages, RLOO, 4, lambda: ticks.append(None))
    assert len(ticks) == 2  # six rows: four and two


def test_an_algorithms_own_metrics_are_means_over_tokens(policy: Policy) -> None:
    class Counting(Rloo):
        """RLOO that reports its tokens, and the log-probabilities they had."""

        def loss(self, minibatch: Minibatch, forward: Forward) -> LossResult:
            tokens = float((minibatch.weights != 0).sum())
            return LossResult(
                super().loss(minibatch, forward).loss, {"one": tokens, "old": float(minibatch.logprobs.sum())}
            )

    advantages = RLOO.advantages(scored_rollout(policy), RunningMean())
    found = learn(policy, advantages, Counting(kind="rloo"), 4)
    assert found["one"] == 1.0
    rollout = advantages.scored.rollout
    assert found["old"] == pytest.approx(float(rollout.logprobs.sum() / rollout.completion_mask.sum()))


def test_a_step_uphill_raises_the_probability_of_what_scored_best(policy: Policy) -> None:
    scored = scored_rollout(policy)
    optimizer = torch.optim.SGD(policy.parameters().values(), lr=1.0)
    advantages = RLOO.advantages(scored, RunningMean())
    before = learn(policy, advantages, RLOO, ROWS)["loss"]
    apply(policy.parameters(), optimizer, 0.01, math.inf)
    assert learn(policy, advantages, RLOO, ROWS)["loss"] < before


class TestApply:
    """One step on numbers worked out by hand, by plain gradient descent."""

    @staticmethod
    def weights(*gradients: list[float]) -> tuple[dict[str, nn.Parameter], torch.optim.SGD]:
        parameters = {}
        for number, values in enumerate(gradients):
            parameters[f"w{number}"] = nn.Parameter(torch.ones(len(values)))
            parameters[f"w{number}"].grad = torch.tensor(values)
        return parameters, torch.optim.SGD(parameters.values(), lr=99.0)

    def test_below_the_limit_the_gradient_is_taken_as_it_is(self) -> None:
        parameters, optimizer = self.weights([0.3], [0.4])
        assert apply(parameters, optimizer, 0.5, 1.0) == {"grad_norm": pytest.approx(0.5), "lr": 0.5}
        assert_close(parameters["w0"].detach(), torch.tensor([0.85]))  # 1 - .5 * .3
        assert_close(parameters["w1"].detach(), torch.tensor([0.8]))

    def test_above_it_all_of_it_is_scaled_down_together(self) -> None:
        parameters, optimizer = self.weights([3.0], [4.0])
        assert apply(parameters, optimizer, 0.5, 1.0)["grad_norm"] == pytest.approx(5.0)
        assert_close(parameters["w0"].detach(), torch.tensor([0.7]), rtol=0, atol=1e-5)  # 1 - .5 * 3 / 5
        assert_close(parameters["w1"].detach(), torch.tensor([0.6]), rtol=0, atol=1e-5)

    def test_infinity_switches_clipping_off(self) -> None:
        parameters, optimizer = self.weights([3.0], [4.0])
        apply(parameters, optimizer, 0.1, math.inf)
        assert_close(parameters["w0"].detach(), torch.tensor([0.7]))

    def test_the_gradient_is_cleared(self) -> None:
        parameters, optimizer = self.weights([3.0])
        apply(parameters, optimizer, 0.1, 1.0)
        assert parameters["w0"].grad is None

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("limit", [1.0, math.inf])
    def test_a_gradient_that_is_not_finite_is_refused_and_the_weights_are_untouched(
        self, value: float, limit: float
    ) -> None:
        parameters, optimizer = self.weights([1.0, value], [2.0])
        with pytest.raises(NotFinite, match=r"^the gradient is not finite$"):
            apply(parameters, optimizer, 0.1, limit)
        assert parameters["w0"].tolist() == [1.0, 1.0]
        assert all(parameter.grad is None for parameter in parameters.values())


class TestCheck:
    """After the updates of a rollout."""

    @pytest.mark.parametrize(("value", "said"), [
        (math.nan, "the weights would not be finite"),
        (math.inf, "the weights would not be finite"),
        (1e38, "the policy's probabilities would not be finite"),
    ])  # fmt: skip
    def test_what_cannot_be_sampled_from_is_noticed(self, value: float, said: str) -> None:
        policy = build(tiny())
        engine = TransformersEngine(policy)
        rollout = engine.sample(batch_of(policy, ["abc"], samples=2), Sampling(4, 1.0), nothing)
        check_finite(rollout, engine, policy.parameters())
        with torch.no_grad():
            for parameter in policy.parameters().values():
                parameter.fill_(value)
        with pytest.raises(NotFinite, match=f"^{said}$"):
            check_finite(rollout, engine, policy.parameters())


class TestMinibatches:
    """Which completions each update sees."""

    def test_one_update_takes_the_rollout_as_it_is(self) -> None:
        assert [rows.tolist() for rows in split_rollout(5, RLOO, seed=0, step=3)] == [[0, 1, 2, 3, 4]]

    def test_every_epoch_sees_every_completion_once_in_an_order_of_its_own(self) -> None:
        plan = [rows.tolist() for rows in split_rollout(10, ppo(epochs=2, minibatch_size=4), seed=0, step=3)]
        assert [len(rows) for rows in plan] == [4, 3, 3, 4, 3, 3]  # no remainder of two
        first, second = [*chain(*plan[:3])], [*chain(*plan[3:])]
        assert sorted(first) == sorted(second) == list(range(10))
        assert first != second != list(range(10))

    def test_the_order_is_a_function_of_seed_and_step(self) -> None:
        def plan(seed: int, step: int) -> list[list[int]]:
            return [rows.tolist() for rows in split_rollout(10, ppo(epochs=1, minibatch_size=4), seed, step)]

        assert plan(1, 2) == plan(1, 2)
        assert plan(1, 2) != plan(1, 3)
        assert plan(1, 2) != plan(2, 2)

    def test_a_minibatch_as_large_as_the_rollout_is_not_shuffled(self) -> None:
        plan = [rows.tolist() for rows in split_rollout(4, ppo(epochs=2, minibatch_size=4), seed=0, step=0)]
        assert plan == [[0, 1, 2, 3], [0, 1, 2, 3]]


def test_the_summary_is_the_mean_but_for_the_gap_which_only_the_first_update_knows() -> None:
    updates = [{"loss": 1.0, "sampler/gap": 0.001}, {"loss": 3.0, "sampler/gap": 0.9}]
    assert summarise(updates) == {"loss": 2.0, "sampler/gap": 0.001}


class TestWithValues:
    """PPO on a policy with a value head."""

    @pytest.fixture
    def advantages(self) -> Advantages:
        self.policy = build(tiny("gpt2"), value_head=True, shared_trunk=True)
        move_adapter(self.policy)
        self.engine = TransformersEngine(self.policy)
        rollout = self.engine.sample(batch_of(self.policy, TEXTS, SAMPLES), Sampling(7, 1.2), nothing)
        scored = scored_by(self.engine, rollout, SCORES, 0.3, needs_value=True)
        return ppo().advantages(scored, RunningMean())

    def test_the_first_pass_finds_every_ratio_and_value_where_it_was(self, advantages: Advantages) -> None:
        scored, rollout = advantages.scored, advantages.scored.rollout
        keep = rollout.completion_mask
        hidden = self.engine.hidden(rollout, torch.arange(ROWS))
        logprobs = token_logprobs(hidden, rollout.tokens[keep], self.engine.head, 1.2)
        assert_close((logprobs - rollout.logprobs[keep]).exp(), torch.ones(len(logprobs)), rtol=0, atol=1e-5)
        assert_close(self.engine.values(hidden), scored.values[keep], rtol=0, atol=1e-5)
        assert float(scored.values.abs().max()) > 0.1
        assert learn(self.policy, advantages, ppo(), 4)["policy/clip_fraction"] == 0.0

    def test_the_gradient_reaches_the_head_and_through_it_the_adapter(self, advantages: Advantages) -> None:
        learn(self.policy, replace(advantages, advantages=torch.zeros_like(advantages.advantages)), ppo(), 4)
        for name, parameter in self.policy.parameters().items():
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().max()) > 0, name

    def test_without_a_shared_trunk_it_stays_in_the_head(self, advantages: Advantages) -> None:
        assert self.policy.value_head is not None
        self.policy.value_head.shared_trunk = False
        learn(self.policy, replace(advantages, advantages=torch.zeros_like(advantages.advantages)), ppo(), 4)
        moved = {name for name, p in self.policy.parameters().items() if p.grad is not None and p.grad.abs().max() > 0}
        assert moved == {"value_head.linear.weight", "value_head.linear.bias"}

    @pytest.mark.parametrize("size", [1, 4, 100])
    def test_neither_microbatches_nor_the_order_of_rows_change_it(self, advantages: Advantages, size: int) -> None:
        expected, _ = gradient(self.policy, advantages.scored, ppo(), ROWS)
        rows = torch.tensor([3, 0, 5, 1, 4, 2])
        accumulate_gradient(
            advantages,
            rows,
            ppo(),
            self.engine,
            kl="reward",
            max_new_tokens=7,
            microbatch_size=size,
            tick=nothing,
        )
        assert_same_gradient({n: p.grad for n, p in self.policy.parameters().items()}, expected)

    def test_a_second_pass_clips(self, advantages: Advantages) -> None:
        move_adapter(self.policy, seed=6)
        assert learn(self.policy, advantages, ppo(), 4)["policy/clip_fraction"] > 0.05

    def test_without_a_head_there_are_no_values(self, policy: Policy) -> None:
        with pytest.raises(ValueError, match="no value head"):
            TransformersEngine(policy).values(torch.zeros(1, 16))


@pytest.mark.parametrize("kl", ["exact", "loss_k2", "loss_k2_sequence"])
def test_the_kl_as_a_loss_is_that_of_the_plain_formula(policy: Policy, kl: Placement) -> None:
    engine = TransformersEngine(policy)
    rollout = engine.sample(batch_of(policy, TEXTS, SAMPLES), Sampling(7, 1.2), nothing)
    scored = scored_by(engine, rollout, SCORES, 0.3, kl=kl)
    silent = replace(RLOO.advantages(scored, RunningMean()), advantages=torch.zeros_like(scored.distance.kl))
    rows = torch.arange(ROWS)
    accumulate_gradient(silent, rows, RLOO, engine, kl=kl, max_new_tokens=7, microbatch_size=2, tick=nothing)
    found = {name: parameter.grad.clone() for name, parameter in policy.parameters().items()}
    for parameter in policy.parameters().values():
        parameter.grad = None
    keep = rollout.completion_mask
    now = torch.log_softmax(engine.head(engine.hidden(rollout, rows)) / 1.2, -1)
    with torch.no_grad():
        reference = torch.log_softmax(engine.head(engine.hidden(rollout, rows, reference=True)) / 1.2, -1)
    if kl == "exact":
        cost = (now.exp() * (now - reference)).sum()
    else:
        tokens = rollout.tokens[keep].unsqueeze(1)
        k1 = torch.zeros_like(rollout.logprobs)
        k1[keep] = (now.gather(1, tokens) - reference.gather(1, tokens)).squeeze(1)
        cost = (k1.sum(1) if kl == "loss_k2_sequence" else k1).square().sum() / 2
    (0.3 * cost / ROWS).backward()
    assert_same_gradient(found, {name: parameter.grad for name, parameter in policy.parameters().items()})


def test_completions_the_trainer_finds_likelier_count_more(policy: Policy) -> None:
    scored = scored_rollout(policy)
    weights = torch.tensor([0.0, 0.1, -0.2, 0.4, 5.0, -1.0])
    plain = RLOO.advantages(scored, RunningMean())
    by_hand = replace(plain, advantages=plain.advantages * weights.exp().clamp(max=2.0).unsqueeze(1))
    learn(policy, by_hand, RLOO, 4)
    expected = {name: parameter.grad.clone() for name, parameter in policy.parameters().items()}
    for parameter in policy.parameters().values():
        parameter.grad = None
    weighted = replace(plain, scored=replace(scored, log_weights=weights))
    learn(policy, weighted, RLOO, 4)
    assert_same_gradient({name: parameter.grad for name, parameter in policy.parameters().items()}, expected)


def test_a_batch_that_lost_prompts_has_other_shards_than_it_was_sampled_in(
    moved_policies: Callable[[str], Policy], make_run: MakeRun
) -> None:
    policy = moved_policies("llama")
    one, two = (make_run(policy, prompts_per_step=3, shards=shards) for shards in (1, 2))
    whole, rest = batch_of(policy, TEXTS, SAMPLES), batch_of(policy, TEXTS[1:], SAMPLES)
    assert [keeps_shards(run, batch) for run in (one, two) for batch in (whole, rest)] == [True, True, True, False]


@pytest.mark.skipif(not is_faster_packed(torch.ones(8, 8)), reason="invariance is promised on an AMD CPU")
@pytest.mark.parametrize(
    ("algorithm", "kl", "reuse", "threads"),
    [({"kind": "rloo"}, "exact", True, 2), ({"kind": "rloo"}, "loss_k2", False, 1), (ppo_fields(), "reward", True, 1)],
    ids=["rloo, threads", "rloo", "ppo"],
)
def test_an_invariant_gradient_has_the_same_bits_however_it_is_divided(
    make_run: MakeRun, algorithm: dict[str, Any], kl: str, reuse: bool, threads: int
) -> None:
    policy = build(tiny("llama"), value_head=True, shared_trunk=True)
    move_adapter(policy)
    common = {"algorithm": algorithm, "kl": kl, "invariant": True, "prompts_per_step": 10}

    def gradient(size: int, threads: int, shards: int) -> tuple[list[Tensor], dict[str, float]]:
        run, before = make_run(policy, microbatch_size=size, shards=shards, **common), torch.get_num_threads()
        run.engine = NativeEngine(policy, invariant=True)
        torch.set_num_threads(threads)
        try:
            return divided(run, reuse=reuse)
        finally:
            torch.set_num_threads(before)

    whole, logged = gradient(20, 1, 1)
    assert max(float(part.abs().max()) for part in whole) > 1e-3
    for size, shards in ((6, 1), (7, 3), (20, 4)):
        found, other = gradient(size, threads if size == 7 else 1, shards)
        assert all(torch.equal(one, two) for one, two in zip(found, whole, strict=True)), (size, threads, shards)
        assert other == logged


@pytest.mark.parametrize(("invariant", "sizes"), [(True, [3, 4, 4]), (False, [3, 6, 100])])
def test_a_microbatch_of_an_invariant_update_follows_from_the_batch(
    invariant: bool, sizes: list[int], make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here five completions have as many tokens as one may have, and groups are of two; memory may hold fewer."""
    run = make_run(build(tiny()), invariant=invariant, prompts_per_step=3)
    batch = batch_of(run.policy, TEXTS, SAMPLES)
    rollout = run.shards.sample(batch, Sampling(3, 1.0), nothing)
    advantages = Rloo(kind="rloo").advantages(scored_by(run.engine, rollout, torch.zeros(ROWS), 0.3), RunningMean())
    longest = max(len(prompt.tokens) for prompt in batch.prompts) + run.config.max_new_tokens
    monkeypatch.setattr("rlhf_cli.pipeline.update.CPU_TOKENS", 5 * longest)
    assert [update_size(run, advantages, fitting) for fitting in (3, 6, 100)] == sizes


def divided(run: Run, *, reuse: bool) -> tuple[list[Tensor], dict[str, float]]:
    """The gradient of a run's first update, and what it logs, of ten prompts that begin alike."""
    batch, algorithm = batch_of(run.policy, [f"Say {text}" for text in "abcdefghij"], SAMPLES), run.config.algorithm
    rollout = run.shards.sample(batch, Sampling(7, 1.2), nothing, remember=0)
    scores = torch.linspace(-1, 1, len(batch)).square()
    scored = scored_by(run.engine, rollout, scores, 0.3, kl=run.config.kl, needs_value=algorithm.needs_value)
    advantages = algorithm.advantages(scored, RunningMean())
    logged = compute_gradient(run, advantages, torch.arange(len(batch)), 5, nothing, reuse=reuse)
    gradients = [p.grad for p in run.policy.parameters().values() if p.grad is not None]
    run.optimizer.zero_grad()
    return gradients, logged
