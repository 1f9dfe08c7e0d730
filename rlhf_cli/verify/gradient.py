"""Compare a run's expected update with the exact gradient of its objective, on a problem that can be listed."""

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Final, Literal

import torch
from torch import Tensor

from rlhf_cli.errors import UserError
from rlhf_cli.functional.returns import STD_EPSILON
from rlhf_cli.pipeline.run import truncation
from rlhf_cli.rewards.shaping import Spread
from rlhf_cli.schedules import Controlled
from rlhf_cli.schema import RunConfig
from rlhf_cli.verify.causes import LATER, change, find_causes, scale_of, several_updates
from rlhf_cli.verify.exact import Tables, Target, chances_of_differences, gradient, group_weights, spread
from rlhf_cli.verify.expected import SEEN, expect

PROMPTS, VOCABULARY, LENGTH, GROUP = 2, 3, 2, 3
"""Sizes of the problem; GROUP: most completions of a step. Two prompts with 7 completions each make 168 steps."""
EXACT: Final = 1e-5
"""Largest relative error of an exact gradient: scores are rounded to float32 on their way."""
ZERO: Final = 1e-9
"""Norm below which a gradient has no direction."""
MOVE: Final = 0.1
"""Logits of the way, 2-norm, that the average first update takes; one rollout's own update is longer."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An expected update beside the exact gradient."""

    relative_error: float
    """The distance between both, made equally long, in their length: 0 the same direction, 2 the opposite one."""
    cosine: float
    norm_ratio: float
    """The update's length over the gradient's."""


@dataclass(frozen=True, slots=True)
class Bias:
    """A known bias of the run's settings, and what it costs by itself."""

    key: str
    meaning: str
    page: str
    relative_error: float


@dataclass(frozen=True, slots=True)
class Verification:
    """The findings of `rlhf verify-gradient`."""

    algorithm: str
    kl: str
    objective: str
    beta: float
    temperature: float
    group: int
    """Completions of a step."""
    steps: int
    """Different steps; the expectation is over all of them."""
    first: Comparison
    """The first update of a rollout."""
    later: Comparison | None
    """A later update of the same rollout; None where there is none."""
    size: float
    """The documented `norm_ratio` of an unbiased update."""
    biases: tuple[Bias, ...]
    without: Comparison | None
    """The first update without any of the biases; None where there are none."""
    verdict: Literal["unbiased", "biased by design", "wrong"]


def verify_gradient(config: RunConfig) -> Verification:
    """Verify the run's algorithm, placement of the KL, sampling and reward shaping, as they are half way."""
    half = config.steps // 2, config.steps
    beta = config.beta.begin().beta if isinstance(config.beta, Controlled) else config.beta.at(*half)
    temperature = config.temperature.at(*half)
    small = shrink(config)
    causes, several = list(find_causes(small, beta)), several_updates(config)
    first, later, size, steps = compare(small, beta, temperature, later=several)
    plain = change(small, {cause.key: cause.unbiased for cause in causes})
    without, later_alone, size, _ = (
        compare(plain, beta, temperature, later=several) if causes else (first, later, size, 0)
    )
    single = [(cause, change(plain, {cause.key: attrgetter(cause.key)(small)})) for cause in causes]
    alone = [(cause, compare(own, beta, temperature, later=False)[0]) for cause, own in single]
    alone += [] if later_alone is None else [(LATER, later_alone)]
    biases = tuple(Bias(cause.key, cause.meaning, cause.page, one.relative_error) for cause, one in alone)
    exact = without.relative_error <= EXACT and abs(without.norm_ratio / size - 1) <= EXACT
    return Verification(
        algorithm=config.algorithm.kind,
        kl=config.kl,
        objective=describe(config),
        beta=beta,
        temperature=temperature,
        group=small.samples_per_prompt,
        steps=steps,
        first=first,
        later=later,
        size=size,
        biases=biases,
        without=without if causes else None,
        verdict="wrong" if not exact else "biased by design" if biases else "unbiased",
    )


def shrink(config: RunConfig) -> RunConfig:
    """The run with steps of one prompt, few and short completions, and one update each."""
    fewest = max(config.algorithm.min_group, config.algorithm.min_completions)
    group = max(fewest, min(GROUP, config.prompts_per_step * config.samples_per_prompt))
    if config.algorithm.min_group > 1:
        group = max(fewest, min(GROUP, config.samples_per_prompt))
    changes: dict[str, Any] = {"max_new_tokens": LENGTH, "prompts_per_step": 1, "samples_per_prompt": group}
    if several_updates(config):
        changes |= {"algorithm.epochs": 1, "algorithm.minibatch_size": None}
    return change(config, changes)


def describe(config: RunConfig) -> str:
    """The objective of the run, in one line."""
    policy = "truncated policy" if truncation(config).is_active else "policy"
    score = "score" if not config.reward.normalise else "normalised score"
    if config.reward.truncated == "mask":
        return f"E[{score} | ended] - beta KL({policy} | ended || reference | ended)"
    return f"E[{score}] - beta KL({policy} || reference)"


def small_problem(config: RunConfig) -> Tables:
    """Two prompts, a reference, a policy away from it, and scores on both sides of the run's limits for them.

    With prompts=dynamic they are whole numbers.
    """
    generator = torch.Generator().manual_seed(21)
    states = (VOCABULARY**LENGTH - 1) // (VOCABULARY - 1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    reference, policy = draw(PROMPTS, states, VOCABULARY), draw(PROMPTS, states, VOCABULARY)
    policy[:, 0, -1] += 0.7  # short texts stay possible where sampling is truncated
    tables = Tables(reference, policy, torch.zeros(0), LENGTH)
    scores = draw(PROMPTS, len(tables.texts)) * torch.tensor([[0.5], [1.5]]) + 1.0
    if config.prompts == "dynamic":  # so that there are groups of different completions with one score
        scores = scores.floor()
    if config.reward.clip is not None:
        low, high = config.reward.clip
        scores = (low + high) / 2 + (scores - 1.0) * (high - low) / 2
    return replace(tables, scores=scores)


def target_of(config: RunConfig, tables: Tables, beta: float, temperature: float) -> tuple[Target, Spread]:
    """The objective of the run on the problem, and the spread of the scores that it has seen by then."""
    reward = config.reward
    target = Target(
        beta=beta,
        temperature=temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        min_p=config.min_p,
        clip=reward.clip,
        length_penalty=reward.length_penalty,
        penalty=reward.truncated_penalty if reward.truncated == "penalty" else 0.0,
        ended_only=reward.truncated == "mask",
    )
    if not reward.normalise:
        return target, Spread()
    mean, variance = spread(tables, target)
    return replace(target, centre=mean, unit=variance**0.5 + STD_EPSILON), Spread(SEEN, mean, variance * SEEN)


def compare(
    config: RunConfig, beta: float, temperature: float, *, later: bool
) -> tuple[Comparison, Comparison | None, float, int]:
    """The first update, and a `later` one, beside the gradient; the documented norm ratio; the number of steps."""
    tables = small_problem(config)
    target, seen = target_of(config, tables, beta, temperature)
    group, fewest = config.samples_per_prompt, config.algorithm.min_group
    weights = group_weights(tables, target, group, fewest, lambda completions: scale_of(config, completions))
    if config.prompts == "dynamic":  # of the groups that are drawn, so many are kept
        weights = weights / float(chances_of_differences(tables, target, group).mean())
    size = float(weights.sum())
    true = gradient(tables, tables.policy, target, weights / size)
    if float(true.norm()) < ZERO:
        raise UserError(
            "the gradient of J is zero: on the small policy these settings leave one text for each prompt",
            where="verify-gradient",
            fix="verify it with a larger top_k or top_p, or a smaller min_p",
        )
    move = MOVE / (size * float(true.norm())) if later else None
    found = expect(config, tables, beta, temperature, seen, group, move)
    if found.later is None:
        return compared(found.first, true), None, size, found.steps
    there = sum(
        (chance * gradient(tables, policy, target, weights / size) for chance, policy in found.moved),
        torch.zeros_like(true),
    )
    return compared(found.first, true), compared(found.later, there), size, found.steps


def compared(found: Tensor, true: Tensor) -> Comparison:
    """Compare an expected update with the gradient, both of any shape."""
    length, right = found.norm(), true.norm()
    ours, theirs = found / length.clamp(min=1e-300), true / right
    return Comparison(float((ours - theirs).norm()), float((ours * theirs).sum()), float(length / right))
