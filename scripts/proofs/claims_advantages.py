"""Claims about advantages: baselines, the group's spread, the length of completions, and the value head."""

from __future__ import annotations

from dataclasses import replace

import torch
from claims_problem import (
    BETA,
    ROUNDING,
    Claim,
    Found,
    by_token,
    chances,
    mean,
    of_objective,
    off,
    percent,
    problem,
    run,
    size,
    step_gradients,
    variance,
    with_algorithm,
    wrong,
)
from torch import Tensor

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.types import Advantages, Scored
from rlhf_cli.verify.exact import Tables


def leave_one_out_bias() -> Found:
    """Unbiased at every group size."""
    errors = [wrong(mean(step_gradients(run("rloo"), problem(), group)), of_objective(problem())) for group in (2, 3)]
    return Found(
        f"off by {size(errors[0])} with groups of two, {size(errors[1])} with three",
        "holds" if max(errors) < ROUNDING else "does not hold",
    )


def leave_one_out_noise() -> Found:
    """Its variance over that without a baseline, for scores around 0 and around 2."""
    ratios = []
    for level in (0.0, 2.0):
        one = replace(problem(), scores=problem().scores - problem().scores.mean() + level)
        own, bare = (variance(step_gradients(run(kind), one, 2)) for kind in ("rloo", "reinforce"))
        ratios.append(own / bare)
    figures = (
        f"variance over that without a baseline, in pairs: {ratios[0]:.2f} with mean score 0, {ratios[1]:.2f} with 2"
    )
    if max(ratios) < 1:
        return Found(figures, "holds")
    far = "holds only if scores are far from 0 beside their spread"
    return Found(figures, far if ratios[1] < 1 else "does not hold")


def rloo_is_grpo() -> Found:
    """Every step's gradient, both ways."""
    ours, theirs = step_gradients(run("rloo"), problem(), 2), step_gradients(run("grpo"), problem(), 2)
    largest = max(float((a - b * 2).abs().max()) for (_, a), (_, b) in zip(ours, theirs, strict=True))
    return Found(
        f"largest difference of an entry in {len(ours)} steps of two completions: {size(largest)}",
        "holds" if largest < ROUNDING else "does not hold",
    )


def spread_weighs_prompts() -> Found:
    """The weight of the prompt with narrow scores against the other one, beside J's."""
    found = mean(step_gradients(run("grpo", scale_by_std=True), problem(), 3))
    true = of_objective(problem())
    share = [float(one[0].norm() / one[1].norm()) for one in (found, true)]
    within = off(found[1], true[1])
    return Found(
        "scores a third as far apart give a prompt "
        f"{share[0] / share[1]:.1f} times its weight in J; within a prompt the direction is {percent(within)} off",
        "holds" if share[0] > 1.5 * share[1] else "does not hold",
    )


def length_prompt() -> Tables:
    """One prompt, uniform: `1 *` is right; the short `2` and the long `0 *` are wrong, and equally probable."""
    flat = torch.zeros(1, 4, 3, dtype=torch.float64)
    scores = torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    return Tables(flat, flat.clone(), scores, 2)


def long_over_short(aggregation: str) -> float:
    """How fast the odds of long wrong texts against the short one grow along the expected update of unit length."""
    found = mean(step_gradients(run("grpo", aggregation=aggregation), length_prompt(), 3, beta=0.0))
    return float((found[0, 0, 0] - found[0, 0, 2]) / found.norm())


def length_bias() -> Found:
    """Long wrong completions gain on short wrong ones, or not."""
    own, whole = long_over_short("sequence_mean"), long_over_short("sum")
    return Found(
        "log odds of long against short wrong texts, along an update of length 1: "
        f"{own:+.2f} divided by their own length, {size(whole)} without",
        "holds" if own > 0.01 and abs(whole) < ROUNDING else "does not hold",
    )


def token_mean() -> Found:
    """Its bias by group size."""
    odds, config = long_over_short("token_mean"), run("grpo", aggregation="token_mean")
    errors = [off(mean(step_gradients(config, problem(), group)), of_objective(problem())) for group in (2, 3)]
    if max(errors) < ROUNDING:
        verdict = "holds"
    else:
        verdict = "holds only if a step has many completions" if errors[0] > errors[1] else "does not hold"
    return Found(
        f"log odds as above {odds:+.2f}; {percent(errors[0], 1)} off with two completions a step, "
        f"{percent(errors[1], 1)} with three",
        verdict,
    )


class LengthWeighted(Rloo):
    """RLOO with OPO's baseline: the mean return of the group by length, its own sample included or left out."""

    own: bool

    def advantages(self, scored: Scored, past: RunningMean) -> Advantages:
        """The return less the baseline; the group is the whole rollout."""
        lengths, returns = scored.rollout.lengths.double(), scored.returns.double()
        weights = torch.ones(len(returns), len(returns), dtype=torch.float64) * lengths
        if not self.own:
            weights = weights * (1 - torch.eye(len(returns), dtype=torch.float64))
        baseline = (weights * returns).sum(1) / weights.sum(1)
        return Advantages(scored, (returns - baseline).unsqueeze(1) * scored.rollout.completion_mask)


class Constant(Rloo):
    """A baseline for each prompt that is known beforehand."""

    baselines: tuple[float, float]

    def advantages(self, scored: Scored, past: RunningMean) -> Advantages:
        """The return less the prompt's baseline."""
        baseline = self.baselines[scored.rollout.batch.prompts[0].tokens[0]]
        return Advantages(scored, (scored.returns - baseline).unsqueeze(1) * scored.rollout.completion_mask)


def own_sample_baseline() -> Found:
    """OPO's baseline from the group with and without the completion itself."""
    true, found = of_objective(problem()), {}
    for own in (True, False):
        config = with_algorithm(LengthWeighted(kind="rloo", own=own))
        found[own] = mean(step_gradients(config, problem(), 2))
    inside, outside = off(found[True], true), wrong(found[False], true)
    return Found(
        f"direction {percent(inside, 1)} off with the completion's own return in it, {size(outside)} without",
        "holds only if the completion itself is left out" if outside < ROUNDING < inside else "does not hold",
    )


def optimal_baseline() -> Found:
    """The variance with known baselines: OPO's, the best one, and the mean return."""
    tables = problem()
    held = chances(tables, tables.policy)
    k1 = (by_token(tables, tables.policy) - by_token(tables, tables.reference)).sum(2)
    returns = tables.scores - BETA * k1
    lengths = torch.tensor([len(text) for text in tables.texts], dtype=torch.float64)
    squares = _squared_scores(tables)

    def noise(weights: Tensor) -> float:
        baseline = ((held * weights * returns).sum(1) / (held * weights).sum(1)).tolist()
        config = with_algorithm(Constant(kind="rloo", baselines=(baseline[0], baseline[1])))
        steps = step_gradients(config, tables, 1)
        assert wrong(mean(steps), of_objective(tables)) < ROUNDING
        return variance(steps)

    plain, by_length, best = (noise(weights) for weights in (torch.ones_like(held), lengths.expand_as(held), squares))
    return Found(
        f"variance over that with the mean return: {by_length / plain:.2f} weighted by length, {best / plain:.2f} by "
        "the squared score function",
        "holds" if by_length < plain else "does not hold",
    )


def _squared_scores(tables: Tables) -> Tensor:
    """|grad log pi(y)|^2 of every completion, [P, C]."""
    table = tables.policy.clone().requires_grad_()

    def squared(value: Tensor) -> float:
        return float(torch.autograd.grad(value, table, retain_graph=True)[0].square().sum())

    return torch.tensor([[squared(one) for one in row] for row in by_token(tables, table).sum(2)], dtype=torch.float64)


STEPS = "enumeration of every step"
CLAIMS = (
    Claim(
        "leave one out",
        "The leave-one-out baseline leaves the gradient unbiased",
        "2402.14740",
        STEPS,
        leave_one_out_bias,
    ),
    Claim(
        "leave one out, noise",
        "The leave-one-out baseline has less noise than no baseline",
        "2402.14740",
        STEPS,
        leave_one_out_noise,
    ),
    Claim("RLOO is GRPO", "GRPO without the spread is RLOO times (G - 1) / G", "2503.20783", STEPS, rloo_is_grpo),
    Claim(
        "spread",
        "Dividing by a group's spread weighs prompts with little spread more",
        "2503.20783",
        STEPS,
        spread_weighs_prompts,
    ),
    Claim(
        "length",
        "Dividing by a completion's own length favours long wrong completions",
        "2503.20783",
        STEPS,
        length_bias,
    ),
    Claim("token mean", "The mean over all tokens has no bias by length", "2503.14476", STEPS, token_mean),
    Claim(
        "optimal baseline",
        "A baseline weighted by length has less noise than the mean return",
        "2505.23585",
        STEPS + ", the baseline known",
        optimal_baseline,
    ),
    Claim(
        "own sample",
        "Estimated from the group, that baseline leaves the gradient unbiased",
        "2505.23585",
        STEPS,
        own_sample_baseline,
    ),
)
