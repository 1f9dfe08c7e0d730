"""Claims about updates: sampler and trainer, temperature, clipping, and best of n beside training."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from claims_problem import (
    BETA,
    ROUNDING,
    Claim,
    Found,
    by_token,
    chances,
    differentiate,
    of_objective,
    off,
    percent,
    problem,
    run,
    size,
    wrong,
)
from torch import Tensor

from rlhf_cli.functional.mismatch import LARGEST_WEIGHT
from rlhf_cli.rewards.shaping import Spread
from rlhf_cli.verify.exact import Tables
from rlhf_cli.verify.expected import PAST, SmallPolicy, every_step, gradient_of, list_completions, score_step, take

POLICIES = 3
"""Random ones, for each question about the entropy."""


def mismatch(distance: float) -> dict[str, float]:
    """The error of the gradient where the samples are those of a policy so far away, by kind of weights."""
    tables = problem()
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(tables.policy.shape, dtype=torch.float64, generator=generator)
    sampler = tables.policy + distance * noise
    ours, theirs = by_token(tables, tables.policy), by_token(tables, sampler)
    k1 = (ours - by_token(tables, tables.reference)).sum(2)
    returns, written = tables.scores - BETA * k1 - 0.5, chances(tables, sampler)
    whole = (ours - theirs).sum(2, keepdim=True).exp()

    def error(weights: Tensor) -> float:
        factors = (written * returns).unsqueeze(2) * weights
        found = differentiate(tables, lambda table: (factors * by_token(tables, table)).sum((1, 2)))
        return wrong(found, of_objective(tables))

    return {
        "none": error(torch.ones_like(whole)),
        "tokens": error((ours - theirs).exp()),
        "completions": error(whole),
        "cut": error(whole.clamp(max=LARGEST_WEIGHT)),
    }


def sequence_weights() -> Found:
    """Weights by completion and by token."""
    near, far = mismatch(0.1), mismatch(1.0)
    figures = (
        f"off by {size(near['none'])} without weights, {size(near['tokens'])} with a token's, "
        f"{size(near['completions'])} with a completion's; ten times further away {size(far['none'])}, "
        f"{size(far['tokens'])}, and {size(far['cut'])} with a completion's cut at {LARGEST_WEIGHT:g}"
    )
    if near["completions"] > ROUNDING or near["tokens"] < 1e-3:
        return Found(figures, "does not hold")
    return Found(figures, "holds" if far["cut"] < ROUNDING else "holds only if few weights are cut")


def temperature() -> Found:
    """Samples at 0.7, log-probabilities at 1, with two offsets of the scores."""
    tables, errors = problem(), {}
    written, ours = chances(tables, tables.policy, 0.7), by_token(tables, tables.policy)
    k1 = (ours - by_token(tables, tables.reference)).sum(2)
    for offset in (0.0, 2.0):
        returns = tables.scores + offset - BETA * k1
        found = differentiate(tables, lambda table, r=returns: (written * r * by_token(tables, table).sum(2)).sum(1))
        shifted = replace(tables, scores=tables.scores + offset)
        errors[offset] = off(found, of_objective(shifted, temperature=0.7))
    return Found(
        f"samples at 0.7, loss at 1: direction {percent(errors[0.0])} off; {percent(errors[2.0])} with 2 added to "
        "every score",
        "holds" if errors[0.0] > 0.01 and errors[2.0] > errors[0.0] else "does not hold",
    )


def clip_higher() -> Found:
    """The entropy by the tokens that only the higher range lets through, where rare or common texts are better."""
    rises = {
        better: sum(entropy_gain(seed, better) > 1e-9 for seed in range(POLICIES)) for better in ("rare", "common")
    }
    figures = ", ".join(f"{count} of {POLICIES} where {better} texts are better" for better, count in rises.items())
    verdicts = {(POLICIES, POLICIES): "holds", (POLICIES, 0): "holds only if the better completions are rare"}
    return Found(
        f"what 0.28 instead of 0.2 adds to a second pass raises the entropy of {figures}",
        verdicts.get((rises["rare"], rises["common"]), "does not hold"),
    )


def entropy_gain(seed: int, better: str) -> float:
    """The change of the entropy, per unit of step, by what clip_range_high=0.28 adds to a second pass at 0.2."""
    generator = torch.Generator().manual_seed(seed)
    policy = torch.randn(problem().policy.shape, dtype=torch.float64, generator=generator)
    surprise = -chances(problem(), policy).log()
    scores = (surprise - surprise.mean(1, keepdim=True)) / surprise.std(1, keepdim=True)
    tables = replace(problem(), policy=policy, scores=scores if better == "rare" else -scores)
    engine = SmallPolicy(tables, shared_trunk=False)
    low, high = (run("grpo", clip_range_high=high, aggregation="token_mean") for high in (0.2, 0.28))
    everything, known, total = list_completions(engine, low, 1.0), tables.scores.flatten().tolist(), 0.0
    for probability, rows in every_step(everything.logprobs.sum(1).exp(), 2, 2):
        scored = score_step(low, engine, take(everything, rows), [known[row] for row in rows], 0.0, Spread())
        advantages = low.algorithm.advantages(scored, PAST)
        engine.logits.data = policy + gradient_of(low, engine, advantages) / 2
        added = gradient_of(high, engine, advantages) - gradient_of(low, engine, advantages)
        total += probability * float((added * _entropy_gradient(tables, engine.logits.data)).sum())
        engine.logits.data = policy.clone()
    return total


def _entropy_gradient(tables: Tables, policy: Tensor) -> Tensor:
    """The gradient of the entropy of whole completions, averaged over prompts."""

    def entropy(table: Tensor) -> Tensor:
        whole = by_token(tables, table).sum(2)
        return -(whole.exp() * whole).sum(1)

    return differentiate(replace(tables, policy=policy), entropy)


def best_of_n() -> Found:
    """The KL of best of n to the reference beside log n - (n - 1) / n."""
    tables, gaps = problem(), []
    reference = chances(tables, tables.reference)
    for prompt in range(len(reference)):
        order = tables.scores[prompt].argsort()
        below = torch.nn.functional.pad(reference[prompt][order].cumsum(0), (1, 0))
        for n in (2, 4, 16, 64):
            mass = below[1:] ** n - below[:-1] ** n
            kl = float((mass * (mass / reference[prompt][order]).log())[mass > 0].sum())
            gaps.append(math.log(n) - (n - 1) / n - kl)
    return Found(
        f"for n = 2 to 64 it is {min(gaps):.3f} to {max(gaps):.2f} nats above the KL of the listed completions",
        "holds" if min(gaps) >= 0 else "does not hold",
    )


CLAIMS = (
    Claim(
        "weights",
        "Importance weights of whole completions correct for another sampler; those of tokens do not",
        "2507.18071",
        "enumeration",
        sequence_weights,
    ),
    Claim(
        "temperature",
        "Log-probabilities of the loss have to be at the temperature of the samples",
        "practice (no paper)",
        "enumeration",
        temperature,
    ),
    Claim(
        "clip higher",
        "A higher upper clip range keeps the entropy up",
        "2503.14476",
        "enumeration of every step of two completions, for three random policies",
        clip_higher,
    ),
    Claim(
        "best of n",
        "log n - (n - 1) / n is an upper bound of the KL of best of n",
        "2401.01879",
        "enumeration",
        best_of_n,
    ),
)
