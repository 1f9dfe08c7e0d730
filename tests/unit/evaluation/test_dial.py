"""A policy at other betas: equal to the closed form where the samples are exactly as frequent as they are likely."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from rlhf_cli.display.verbs.oracle import show_dial
from rlhf_cli.evaluation.dial import dial
from rlhf_cli.evaluation.evaluation import Completions, Evaluation
from tests.unit.evaluation.samples import evaluation

BETA = 0.5
POLICY = (1 / 2, 1 / 4, 1 / 8, 1 / 8)
REFERENCE = (1 / 8, 1 / 8, 1 / 4, 1 / 2)
REWARDS = [BETA * math.log(p / q) for p, q in zip(POLICY, REFERENCE, strict=True)]
"""With these the policy is the optimum at its own beta."""


def completions(chances: tuple[float, ...], samples: int) -> Completions:
    """Two equal prompts, whose completions are as frequent as their chances say."""
    places = [place for place, chance in enumerate(chances) for _ in range(round(chance * samples))]
    columns = (REWARDS, list(map(math.log, POLICY)), list(map(math.log, REFERENCE)))
    return Completions(*([[column[place] for place in places]] * 2 for column in columns))


def evaluated(samples: int = 16, *, reference: bool = True) -> Evaluation:
    own = completions(POLICY, samples)
    return replace(
        evaluation(own.reward, step=4, beta=BETA),
        logprob=own.logprob,
        ref_logprob=own.ref_logprob,
        reference=completions(REFERENCE, samples) if reference else None,
    )


def closed_form(beta: float) -> tuple[float, float, float]:
    """J, reward and KL of ref exp(r / beta) / Z, by enumeration."""
    weights = [q * math.exp(r / beta) for q, r in zip(REFERENCE, REWARDS, strict=True)]
    optimum = [weight / sum(weights) for weight in weights]
    reward = sum(p * r for p, r in zip(optimum, REWARDS, strict=True))
    kl = sum(p * math.log(p / q) for p, q in zip(optimum, REFERENCE, strict=True))
    return reward - beta * kl, reward, kl


@pytest.mark.parametrize("beta", [0.2, 0.5, 1.0, 4.0])
def test_it_is_the_optimum_at_each_beta(beta: float) -> None:
    (point,) = dial(evaluated(), [beta])
    assert point.weight == BETA / beta
    assert point.objective is not None
    assert point.reward is not None
    assert point.kl is not None
    found = (point.objective.mean, point.reward.mean, point.kl.mean)
    assert found == pytest.approx(closed_form(beta), abs=1e-12)
    assert point.objective.half_width == pytest.approx(0, abs=1e-12)  # the prompts are equal


def test_beyond_its_own_beta_the_policys_completions_suffice() -> None:
    (point,) = dial(evaluated(64, reference=False), [0.4])
    assert point.objective is not None
    assert point.objective.mean == pytest.approx(closed_form(0.4)[0], abs=1e-12)


def test_a_beta_of_nearly_nothing_is_the_best_completion_alone() -> None:
    (point,) = dial(evaluated(64), [1e-310])
    assert point.reward is not None
    assert point.kl is not None
    assert point.reward.mean == pytest.approx(REWARDS[0])
    assert point.kl.mean == pytest.approx(-math.log(REFERENCE[0]), abs=1e-3)


def test_towards_the_reference_they_do_not() -> None:
    (point,) = dial(evaluated(64, reference=False), [1.0])
    assert point.objective is point.reward is point.kl is None
    assert point.reason.startswith("the reference was not sampled: needs at least 21 samples a prompt")


def test_few_effective_samples_are_refused() -> None:
    # At beta 0.05 nearly all weight is on the first completion, 9 and more of the 32.
    few, share = dial(evaluated(8), [0.05, 0.5])
    assert few.reason == f"{16 * few.effective:.1f} effective samples a prompt, fewer than 10"
    assert few.objective is None
    assert share.reason == ""  # its own beta, whatever the number
    (point,) = dial(replace(evaluated(8), beta=BETA), [1e-3])
    assert point.reason.endswith("effective samples a prompt, fewer than 10")


def test_the_policy_itself_is_never_refused_and_the_same_samples_at_half_its_beta_are() -> None:
    own, half = dial(evaluated(8, reference=False), [BETA, BETA / 2])
    assert own.reason == ""
    # at w = 2 a sample of the policy has the weight policy / reference: 4, 2, 1/2 and 1/4 of 4, 2, 1 and 1 samples
    weights = [4.0] * 4 + [2.0] * 2 + [0.5, 0.25]
    effective = sum(weights) ** 2 / sum(weight**2 for weight in weights)
    assert half.reason == f"{effective:.1f} effective samples a prompt, fewer than 10"


def test_a_small_share_is_refused() -> None:
    """One completion in 32 has nearly all the weight: 1 - 1e-12 of it."""
    logprob = [[-1.0] * 31 + [0.0]] * 2
    odd = replace(
        evaluation([[0.0] * 32] * 2, step=1, beta=1.0), logprob=logprob, ref_logprob=[[-1.0] * 31 + [-9.0]] * 2
    )
    (point,) = dial(odd, [0.25])
    assert point.effective == pytest.approx(1 / 32)
    assert point.reason == "3% effective samples, less than 10%"


def test_a_share_of_a_tenth_is_not_too_small() -> None:
    """All the weight is on one completion of ten."""
    logprob, ref_logprob = [[-1.0] * 9 + [0.0]] * 2, [[-1.0] * 9 + [-900.0]] * 2
    odd = replace(evaluation([[0.0] * 10] * 2, step=1, beta=1.0), logprob=logprob, ref_logprob=ref_logprob)
    (point,) = dial(odd, [0.25])
    assert point.effective == 0.1
    assert point.reason == "1.0 effective samples a prompt, fewer than 10"


def test_the_share_of_a_single_completion_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """It is 1 for any weights; with one of the reference beside it there are two."""
    lone = replace(evaluation([[0.5], [0.25]], step=3, beta=BETA), reference=None)
    one, other = dial(lone, [BETA, BETA / 2])
    assert one.effective is other.effective is None
    assert one.reward is not None
    assert other.reason == "1.0 effective samples a prompt, fewer than 10"
    (both,) = dial(replace(lone, reference=Completions(lone.reward, lone.logprob, lone.ref_logprob)), [BETA])
    assert both.effective == pytest.approx(1.0)
    show_dial([one, other], lone)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[-2] for row in rows if row[1:2] in (["0.5"], ["0.25"])] == ["–", "–"]
