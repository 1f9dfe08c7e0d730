"""The gradient of a whole rollout does not depend on how it is cut, and a bad one is not taken."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.reinforce import Reinforce
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.errors import EXIT_NONFINITE, UserError
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.scoring import against
from rlhf_cli.pipeline.update import accumulate, apply
from rlhf_cli.types import LossResult, Minibatch, PromptBatch, Rollout, Scored
from tests.unit.support import batch_of, build, move_adapter, tiny

TEXTS, SAMPLES, ROWS = ("Hello there", "a", "What is rain?"), 2, 6
SCORES = torch.tensor([1.0, -0.5, 0.3, 2.0, 0.0, -1.0])
RLOO, REINFORCE = Rloo(kind="rloo"), Reinforce(kind="reinforce", baseline="mean")


def nothing() -> None:
    """A tick that nobody counts."""


@pytest.fixture(params=["llama", "gpt2"])
def policy(request: pytest.FixtureRequest) -> Policy:
    made = build(tiny(request.param))
    move_adapter(made)
    return made


def scored_rollout(policy: Policy, temperature: float = 1.2) -> Scored:
    engine = TransformersEngine(policy)
    rollout = engine.sample(batch_of(policy, TEXTS, SAMPLES), 7, temperature, nothing)
    return against(rollout, SCORES, engine, 0.3, ROWS, nothing)


def gradient(
    policy: Policy, scored: Scored, algorithm: Algorithm, size: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The adapter's gradient for the rollout, and what accumulate returned."""
    advantages = algorithm.advantages(scored, RunningMean())
    logged = accumulate(advantages, algorithm, TransformersEngine(policy), size, nothing)
    gradients = {name: parameter.grad.clone() for name, parameter in policy.parameters().items()}
    for parameter in policy.parameters().values():
        parameter.grad = None
    return gradients, logged


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
    other = against(rollout, SCORES[rows], TransformersEngine(policy), 0.3, 4, nothing)
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
    accumulate(advantages, RLOO, TransformersEngine(policy), 4, lambda: ticks.append(None))
    assert len(ticks) == 2  # six rows: four and two


def test_an_algorithms_own_metrics_are_shares_that_add_up(policy: Policy) -> None:
    class Counting(Rloo):
        """RLOO that reports the completions of each minibatch."""

        def loss(self, minibatch: Minibatch, logprobs: Tensor) -> LossResult:
            return LossResult(super().loss(minibatch, logprobs).loss, {"rows": float(len(logprobs)), "minus": -0.5})

    advantages = RLOO.advantages(scored_rollout(policy), RunningMean())
    found = accumulate(advantages, Counting(kind="rloo"), TransformersEngine(policy), 4, nothing)
    assert (found["rows"], found["minus"]) == (6.0, -1.0)


def test_a_step_uphill_raises_the_probability_of_what_scored_best(policy: Policy) -> None:
    scored, engine = scored_rollout(policy), TransformersEngine(policy)
    optimizer = torch.optim.SGD(policy.parameters().values(), lr=1.0)
    advantages = RLOO.advantages(scored, RunningMean())
    before = accumulate(advantages, RLOO, engine, ROWS, nothing)["loss"]
    apply(policy.parameters(), optimizer, 0.01, math.inf)
    assert accumulate(advantages, RLOO, engine, ROWS, nothing)["loss"] < before


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
        with pytest.raises(UserError) as caught:
            apply(parameters, optimizer, 0.1, limit)
        assert caught.value.exit_code == EXIT_NONFINITE == 7
        assert caught.value.line() == (
            "the gradient is not finite, so the step was not taken (optimizer); "
            "fix: resume with a lower one: optimizer.lr=... resume_allow=[optimizer.lr]"
        )
        assert parameters["w0"].tolist() == [1.0, 1.0]
        assert all(parameter.grad is None for parameter in parameters.values())
