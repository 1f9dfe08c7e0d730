"""Claims about the optimum of J, and about the noise of the gradient near it."""

from __future__ import annotations

from dataclasses import replace

import torch
from claims_problem import (
    BETA,
    ROUNDING,
    Claim,
    Found,
    chances,
    of_objective,
    optimum,
    problem,
    run,
    size,
    step_gradients,
    target,
    variance,
)

from rlhf_cli.verify.exact import objectives


def exact_gradient() -> Found:
    """The noise of the gradient, away from the optimum and near it."""
    ratios = []
    for share in (0.0, 0.9):
        one = replace(problem(), policy=problem().policy + share * (optimum(problem()) - problem().policy))
        exact, sampled = (variance(step_gradients(run("rloo", kl=kl), one, 2)) for kl in ("exact", "reward"))
        ratios.append(exact / sampled)
    verdict = "holds" if max(ratios) < 1 else "holds only if the policy is far from the optimum"
    return Found(
        f"variance over that of k1 in the reward, RLOO in pairs: {ratios[0]:.2f} at the policy, {ratios[1]:.0f} nine "
        "tenths of the way to the optimum",
        verdict if ratios[0] < 1 else "does not hold",
    )


def posterior() -> Found:
    """The gradient and the value at pi_ref exp(r / beta) / Z."""
    best = replace(problem(), policy=optimum(problem()))
    norm = float(of_objective(best).norm() / of_objective(problem()).norm())
    value = float(objectives(best, best.policy, target()).mean())
    closed = BETA * float(torch.logsumexp(chances(best, best.reference).log() + best.scores / BETA, 1).mean())
    holds = norm < 1e-12 and abs(value - closed) < 1e-12
    return Found(
        f"gradient there {size(norm)} times that at the policy; J {value:.4f}, beta log Z {closed:.4f}",
        "holds" if holds else "does not hold",
    )


def no_noise() -> Found:
    """The largest gradient of any step at the optimum."""
    best, largest = replace(problem(), policy=optimum(problem())), {}
    for kl in ("reward", "exact"):
        largest[kl] = max(float(found.norm()) for _, found in step_gradients(run("rloo", kl=kl), best, 2))
    verdict = "holds only if k1 is in the reward" if largest["exact"] > 1e-3 else "holds"
    return Found(
        f"longest gradient of a step: {size(largest['reward'])} with kl=reward, {size(largest['exact'])} with kl=exact",
        verdict if largest["reward"] < ROUNDING else "does not hold",
    )


ENUMERATED = "enumeration"
CLAIMS = (
    Claim(
        "exact gradient",
        "A gradient with the exact KL has less noise than one with k1",
        "2504.10637",
        ENUMERATED + " of every step of two completions",
        exact_gradient,
    ),
    Claim(
        "posterior",
        "J is largest at pi_ref exp(r / beta) / Z, where it is beta log Z",
        "2205.11275",
        ENUMERATED,
        posterior,
    ),
    Claim(
        "no noise",
        "At the optimum the gradient with leave-one-out baselines has no noise",
        "2010.10436",
        ENUMERATED + " of every step of two completions",
        no_noise,
    ),
)
