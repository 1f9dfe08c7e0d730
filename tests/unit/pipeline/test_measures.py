"""The metrics of a step, on two completions worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.reinforce import Reinforce
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.pipeline.measures import Means, measure, same_in_group
from rlhf_cli.types import Scored
from tests.unit.support import rollout_of, scored_of


def scored(scores: list[float], samples: int = 2) -> Scored:
    """Lengths 2 and 1; k1 sums .5 and -.3; exact KL sums .7 and .1; entropies 1, 2 and 3; beta .1."""
    rollout = rollout_of(
        [[1, 1], [1, 0]],
        samples=samples,
        logprobs=torch.tensor([[-1.0, -1.0], [-1.0, 0.0]]),
        truncated=[True, False],
        temperature=1.3,
    )
    return scored_of(
        rollout,
        scores,
        ref_logprobs=torch.tensor([[-1.4, -1.1], [-0.7, 0.0]]),
        exact_kl=torch.tensor([[0.3, 0.4], [0.1, 0.0]]),
        entropy=torch.tensor([[1.0, 2.0], [3.0, 0.0]]),
        beta=0.1,
    )


def test_by_hand() -> None:
    found = measure(Rloo(kind="rloo").advantages(scored([2.0, 1.0]), RunningMean()))
    # returns 2 - .05 = 1.95 and 1 + .03 = 1.03: advantages .92, .92, -.92
    assert found == {
        "objective": pytest.approx(1.5 - 0.1 * 0.4),
        "objective_se": pytest.approx((1.93 - 0.99) / 2),
        "reward/mean": pytest.approx(1.5),
        "reward/mean_se": pytest.approx(0.5),  # of two values half their difference
        "reward/same_in_group": 0.0,
        "reward/failures": 0,
        "kl/seq": pytest.approx(0.4),
        "kl/seq_se": pytest.approx(0.3),
        "kl/seq_k1": pytest.approx(0.1),
        "kl/seq_k1_se": pytest.approx(0.4),
        "kl/tok": pytest.approx(0.8 / 3),
        "kl/tok_se": pytest.approx((0.7 - 2 * 0.8 / 3) / 1.5),  # 0.7 in 2 tokens and 0.1 in one, from the mean of 0.267
        "policy/entropy": pytest.approx(2.0),  # (1 + 2 + 3) / 3: a token is a token
        "policy/entropy_se": pytest.approx(1 / 1.5),  # 3 in 2 tokens and 3 in one: 1 less and 1 more than the mean
        "advantage/rms": pytest.approx(0.92),
        "completion/length": 1.5,
        "completion/truncated": 0.5,
        "beta": 0.1,
        "temperature": 1.3,
    }


def test_drawn_prompts_count_by_their_weights() -> None:
    """Two prompts with one completion each, of weights 3 and 1: the means are 3 : 1, the lengths as they are."""
    whole = scored([2.0, 1.0], samples=1)
    batch = replace(whole.rollout.batch, draws=((7, 3.0), (3, 1.0)))
    drawn = replace(whole, rollout=replace(whole.rollout, batch=batch))
    found = measure(Reinforce(kind="reinforce", baseline="none").advantages(drawn, RunningMean()))
    plain = measure(Reinforce(kind="reinforce", baseline="none").advantages(whole, RunningMean()))
    expected = {
        "objective": (3 * 1.93 + 0.99) / 4,
        # values less the mean, times 3/2 and 1/2, are +- 0.375 of the distance of the two: of two values half of it
        "objective_se": 0.375 * (1.93 - 0.99),
        "reward/mean": 1.75,
        "reward/mean_se": 0.375,
        "kl/seq": (3 * 0.7 + 0.1) / 4,
        "kl/seq_se": 0.375 * 0.6,
        "kl/seq_k1": (3 * 0.5 - 0.3) / 4,
        "kl/seq_k1_se": 0.375 * 0.8,
        "kl/tok": (3 * 0.7 + 0.1) / (3 * 2 + 1),
        "kl/tok_se": found["kl/tok_se"],
        "policy/entropy": (3 * 3.0 + 3.0) / (3 * 2 + 1),
        "policy/entropy_se": found["policy/entropy_se"],
        "drawn/objective": plain["objective"],
        "drawn/reward": 1.5,
        "drawn/effective_share": 4**2 / (2 * (9 + 1)),
    }
    assert found == plain | {key: pytest.approx(value) for key, value in expected.items()}
    assert found["kl/tok_se"] == pytest.approx(0.375 * abs((0.7 - 2 * 2.2 / 7) - (0.1 - 2.2 / 7)) / 1.75)


@pytest.mark.parametrize(
    ("scores", "learnable", "samples", "expected"),
    [
        ([1, 1, 2, 3], [1, 1, 1, 1], 2, 0.5),
        ([1, 9, 1, 2, 3, 9], [1, 0, 1, 1, 1, 0], 3, 0.5),  # 1 and 1; 2 and 3; the masked 9 tells nothing apart
        ([1, 9, 1, 9, 9, 9], [1, 0, 1, 0, 0, 0], 3, 1.0),  # a group that is masked as a whole teaches nothing
        ([1, 9, 9, 2], [1, 0, 0, 1], 2, 0.0),  # one a group: compared with each other, as PPO's values do
        ([1, 9, 9, 1], [1, 0, 0, 1], 2, 1.0),
        ([1, 9, 9, 9], [1, 0, 0, 0], 2, 0.0),  # a single completion is compared with nothing
        ([1, 1, 1], [1, 1, 1], 1, 0.0),  # reward/mean_se says this one
        ([1, 9, 1], [1, 0, 1], 1, 1.0),
        ([1, 9, 2], [1, 0, 1], 1, 0.0),
        ([1, 9, 9], [1, 0, 0], 1, 0.0),
        ([0.1, 0.1 + 7e-9, 0.1, 0.1 + 7e-8], [1, 1, 1, 1], 2, 0.5),  # a step of float32, and ten of them
    ],
)
def test_groups_with_one_score(scores: list[float], learnable: list[int], samples: int, expected: float) -> None:
    assert same_in_group(torch.tensor(scores).float(), torch.tensor(learnable).bool(), samples) == expected


def test_advantages_are_of_the_completions_that_are_learned_from() -> None:
    """Returns 1, 5 and 3 of which the second was cut: advantages of -2 and 2, and of 5 - 2 where nothing is learned."""
    rollout = rollout_of([[1, 1], [1, 0], [1, 0]], samples=3, truncated=[False, True, False])
    masked = scored_of(rollout, [1.0, 5.0, 3.0], learnable=torch.tensor([True, False, True]))
    advantages = Rloo(kind="rloo").advantages(masked, RunningMean())
    assert advantages.advantages[:, 0].tolist() == [-2.0, 3.0, 2.0]
    assert measure(advantages)["advantage/rms"] == pytest.approx(2.0)


def test_what_the_reward_failed_at_is_counted() -> None:
    found = measure(Rloo(kind="rloo").advantages(replace(scored([2.0, 1.0]), failures=3), RunningMean()))
    assert found["reward/failures"] == 3


def test_a_run_of_an_earlier_version_keeps_its_metrics() -> None:
    advantages = Rloo(kind="rloo").advantages(scored([2.0, 1.0]), RunningMean())
    newer = {"objective_se", "kl/tok_se", "policy/entropy_se"}
    assert measure(advantages).keys() - measure(advantages, errors=False).keys() == newer


def test_the_error_of_a_mean_over_tokens_is_its_spread() -> None:
    """Rollouts of 40 prompts with one completion: 1 to 6 tokens, values that depend on the length."""
    draws = torch.Generator().manual_seed(0)
    means, errors = [], []
    for _ in range(300):
        lengths = torch.randint(1, 7, (40, 1), generator=draws)
        mask = torch.arange(6) < lengths
        values = torch.rand(40, 6, generator=draws) + lengths / 6
        means.append(float(values[mask].double().mean()))
        errors.append(Means(1).token_error(values, mask))
    assert sum(errors) / 300 == pytest.approx(float(torch.tensor(means).std()), rel=0.12)


def test_mass_that_is_cut_away_is_logged_where_it_is() -> None:
    for weights, cut in (((1.0, 4.0), 2 / 5), ((1.0, 1.9), None)):
        compared = replace(scored([2.0, 1.0]), log_weights=torch.tensor(weights).log())
        found = measure(Rloo(kind="rloo").advantages(compared, RunningMean()))
        assert found.get("sampler/cut_mass") == (cut and pytest.approx(cut))


def without_exact(whole: Scored) -> Scored:
    """The same at a step that does not measure the exact KL."""
    return replace(whole, distance=replace(whole.distance, exact=None))


def test_where_the_kl_was_not_measured_it_is_k1_and_not_called_exact() -> None:
    found = measure(Rloo(kind="rloo").advantages(without_exact(scored([2.0, 1.0])), RunningMean()))
    assert found["objective"] == pytest.approx(1.5 - 0.1 * 0.1)
    assert not {"kl/seq", "kl/seq_se", "kl/tok", "policy/entropy"} & found.keys()
    assert found["kl/seq_k1"] == pytest.approx(0.1)


def test_what_the_values_explain() -> None:
    # tokens of row one and two: returns 1, 2, 3, values 1, 2, 0: unexplained 0, 0, 3 of variance 2, of a variance 2/3
    returns, values = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    plain = Rloo(kind="rloo").advantages(replace(scored([2.0, 1.0]), values=values), RunningMean())
    found = measure(replace(plain, returns=returns))
    assert found["value/explained_variance"] == pytest.approx(1 - 2 / (2 / 3))
    assert found["value/mean"] == pytest.approx(1.0)
    # 1e-7 times the same returns and values is explained as well
    small = replace(plain, scored=replace(plain.scored, values=values * 1e-7), returns=returns * 1e-7)
    assert measure(small)["value/explained_variance"] == pytest.approx(1 - 2 / (2 / 3))


@pytest.mark.parametrize("last", [2.0000002, 100.00001], ids=["2", "100"])
def test_returns_that_differ_by_float32s_last_digit_leave_nothing_to_explain(last: float) -> None:
    returns, values = torch.tensor([[round(last), round(last)], [last, 0.0]]), torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    plain = Rloo(kind="rloo").advantages(scored([2.0, 1.0]), RunningMean())
    for known in (values, torch.zeros_like(values)):
        found = measure(replace(plain, scored=replace(plain.scored, values=known), returns=returns.float()))
        assert "value/explained_variance" not in found
        assert found["value/mean"] == pytest.approx(float(known.sum()) / 3)


def test_sampler_and_trainer() -> None:
    compared = replace(scored([2.0, 1.0]), log_weights=torch.tensor([0.0, math.log(3)]))
    found = measure(Rloo(kind="rloo").advantages(compared, RunningMean()))
    assert found["sampler/effective_share"] == pytest.approx((1 + 3) ** 2 / (2 * (1 + 9)))
    assert found["sampler/log_weight_mean"] == pytest.approx(math.log(3) / 2)
    assert found["sampler/log_weight_sd"] == pytest.approx(math.log(3) / 2)


def test_a_sampler_that_agrees_in_every_bit_is_told_from_one_that_was_not_compared() -> None:
    plain = scored([2.0, 1.0])
    agreed = replace(plain, log_weights=torch.zeros(2))
    found = [measure(Rloo(kind="rloo").advantages(one, RunningMean())) for one in (plain, agreed)]
    assert [one.get("sampler/effective_share") for one in found] == [None, pytest.approx(1.0)]


def test_groups_without_a_difference_are_counted() -> None:
    rollout = rollout_of([[1]] * 6, samples=2)
    found = measure(Rloo(kind="rloo").advantages(scored_of(rollout, [1.0, 1.0, 1.0, 2.0, 0.0, 0.0]), RunningMean()))
    assert found["reward/same_in_group"] == pytest.approx(2 / 3)


def test_groups_of_one_have_nothing_in_common_and_one_completion_has_no_error() -> None:
    from rlhf_cli.algorithms.reinforce import Reinforce

    reinforce = Reinforce(kind="reinforce", baseline="none")
    assert measure(reinforce.advantages(scored([1.0, 1.0], samples=1), RunningMean()))["reward/same_in_group"] == 0.0
    alone = measure(reinforce.advantages(scored_of(rollout_of([[1]]), [1.0]), RunningMean()))
    assert alone["reward/mean_se"] == math.inf
