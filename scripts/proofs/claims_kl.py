"""Claims about the KL: its estimators as losses and in the reward, their variance, and the optimum of J."""

from __future__ import annotations

from dataclasses import replace

import torch
from claims_problem import (
    Claim,
    Found,
    between,
    by_token,
    chances,
    differentiate,
    of_kl,
    off,
    percent,
    problem,
    size,
    wrong,
)
from torch import Tensor

from rlhf_cli.verify.exact import Tables


def as_loss(tables: Tables, estimator: str) -> Tensor:
    """The expected gradient of an estimator of each token's KL, differentiated as a loss."""
    held, reference = chances(tables, tables.policy).detach(), by_token(tables, tables.reference)
    written = by_token(tables, tables.policy) != 0

    def loss(table: Tensor) -> Tensor:
        k1 = by_token(tables, table) - reference
        return (held * (estimates(k1)[estimator] * written).sum(2)).sum(1)

    return differentiate(tables, loss)


def in_reward(tables: Tables, estimator: str) -> Tensor:
    """The expected gradient of an estimator of each token's KL, added up as a cost of the whole completion."""
    held = chances(tables, tables.policy).detach()
    cost = estimates(by_token(tables, tables.policy) - by_token(tables, tables.reference))[estimator].sum(2).detach()
    return differentiate(tables, lambda table: (held * cost * by_token(tables, table).sum(2)).sum(1))


def estimates(k1: Tensor) -> dict[str, Tensor]:
    """Three estimators of the KL, from k1 = log pi - log pi_ref."""
    return {"k1": k1, "k2": k1.square() / 2, "k3": (-k1).exp() - 1 + k1}


def k1_as_loss() -> Found:
    """Its gradient is zero."""
    share = float(as_loss(problem(), "k1").norm() / of_kl(problem()).norm())
    return Found(f"{size(share)} times the length of the KL's gradient", "holds" if share < 1e-12 else "does not hold")


def k2_as_loss() -> Found:
    """Whole completions against tokens."""
    tables, reference = problem(), by_token(problem(), problem().reference).sum(2)
    held = chances(tables, tables.policy).detach()
    whole = differentiate(
        tables, lambda table: (held * (by_token(tables, table).sum(2) - reference).square()).sum(1) / 2
    )
    error, token = wrong(whole, in_reward(tables, "k1")), wrong(as_loss(tables, "k2"), in_reward(tables, "k1"))
    if error > 1e-12:
        return Found(f"whole completions off by {size(error)}", "does not hold")
    verdict = "holds" if token < 1e-12 else "holds only if k2 is that of the whole completion"
    return Found(f"off by {size(error)} for whole completions, by {size(token)} for single tokens", verdict)


def k3_as_loss() -> Found:
    """Its error, near the reference and away from it."""
    shares = (1.0, 0.1, 0.01)
    errors = [wrong(as_loss(one, "k3"), of_kl(one)) for one in (between(problem(), share) for share in shares)]
    text = ", ".join(f"{error:.3f}" for error in errors)
    first_order = errors[0] > 0.1 and errors[1] < errors[0] / 5 and errors[2] < errors[1] / 5
    return Found(
        f"off by {text} of the right length at the policy, a tenth and a hundredth of the way to it",
        "holds" if first_order else "does not hold",
    )


def k3_in_reward() -> Found:
    """The smallest cosine over random policies."""
    generator = torch.Generator().manual_seed(0)
    cosines = []
    for _ in range(200):
        policy = torch.randn(problem().policy.shape, dtype=torch.float64, generator=generator) * 2
        one = replace(problem(), policy=policy)
        found, true = in_reward(one, "k3"), of_kl(one)
        cosines.append(float((found * true).sum() / found.norm() / true.norm()))
    against = sum(cosine < 0 for cosine in cosines)
    return Found(
        f"of 200 random policies {against} have a negative cosine; the smallest is {min(cosines):.2f}",
        "holds" if against else "does not hold",
    )


def k3_against_k1() -> Found:
    """The variance of both as estimates of the KL of a completion."""
    ratios = {}
    for share in (0.1, 1.0, 3.0):
        one = between(problem(), share)
        held = chances(one, one.policy)
        k1 = by_token(one, one.policy) - by_token(one, one.reference)
        ratios[share] = _spread(held, estimates(k1)["k3"].sum(2)) / _spread(held, k1.sum(2))
    text = ", ".join(f"{ratio:.3f}" if ratio < 0.1 else f"{ratio:.2f}" for ratio in ratios.values())
    figures = f"variance of k3 over that of k1 at 0.1, 1 and 3 ways from the reference to the policy: {text}"
    if all(ratio < 1 for ratio in ratios.values()):
        return Found(figures, "holds")
    return Found(figures, "holds only if the policy is near the reference" if ratios[0.1] < 1 else "does not hold")


def exact_estimate() -> Found:
    """The exact KL of each position as an estimate, over policies."""
    generator, ratios = torch.Generator().manual_seed(0), []
    for _ in range(100):
        one = replace(
            problem(), policy=torch.randn(problem().policy.shape, dtype=torch.float64, generator=generator) * 2
        )
        held = chances(one, one.policy)
        k1 = (by_token(one, one.policy) - by_token(one, one.reference)).sum(2)
        ratios.append(_spread(held, _exact(one)) / _spread(held, k1))
    return Found(
        f"variance over that of k1 for 100 random policies: {min(ratios):.2f} to {max(ratios):.2f}",
        "holds" if max(ratios) <= 1 else "does not hold",
    )


def off_policy_k2() -> Found:
    """k2 of whole completions, of an older policy."""
    tables, reference = problem(), by_token(problem(), problem().reference).sum(2)
    older = chances(tables, tables.policy + 0.3 * (tables.reference - tables.policy)).detach()

    def expected_gradient(weights: Tensor) -> Tensor:
        def loss(table: Tensor) -> Tensor:
            return (older * weights * (by_token(tables, table).sum(2) - reference).square()).sum(1) / 2

        return differentiate(tables, loss)

    bias = off(expected_gradient(torch.ones_like(older)), of_kl(tables))
    error = wrong(expected_gradient(chances(tables, tables.policy).detach() / older), of_kl(tables))
    return Found(
        f"{percent(bias)} off without importance weights, {size(error)} with those of whole completions",
        "holds" if bias > 0.01 and error < 1e-12 else "does not hold",
    )


def _exact(tables: Tables) -> Tensor:
    """The exact KL of the positions of each completion, added up: [P, C]."""
    ours, theirs = torch.log_softmax(tables.policy, -1), torch.log_softmax(tables.reference, -1)
    each, size = (ours.exp() * (ours - theirs)).sum(-1), tables.policy.shape[2]
    columns = []
    for text in tables.texts:
        state, total = 0, torch.zeros_like(each[:, 0])
        for token in text:
            total, state = total + each[:, state], size * state + 1 + token
        columns.append(total)
    return torch.stack(columns, 1)


def _spread(held: Tensor, values: Tensor) -> float:
    """The variance under the probabilities [P, C], averaged over prompts."""
    centre = (held * values).sum(1, keepdim=True)
    return float((held * (values - centre).square()).sum(1).mean())


ENUMERATED = "enumeration"
CLAIMS = (
    Claim("k1 as loss", "k1 as a loss has an expected gradient of zero", "2506.09477", ENUMERATED, k1_as_loss),
    Claim(
        "k2 as loss",
        "On-policy, k2 as a loss has the gradient of k1 in the reward",
        "2510.01555",
        ENUMERATED,
        k2_as_loss,
    ),
    Claim(
        "k2 off-policy",
        "Off-policy, k2 as a loss is biased without importance weights, and exact with them",
        "2510.01555",
        ENUMERATED,
        off_policy_k2,
    ),
    Claim(
        "k3 as loss",
        "k3 as a loss is a biased, first-order approximation of the KL's gradient",
        "2510.01555",
        ENUMERATED,
        k3_as_loss,
    ),
    Claim(
        "k3 in reward",
        "k3 in the reward has a biased gradient; it can even point against the KL's",
        "2512.21852",
        ENUMERATED + " of 200 policies",
        k3_in_reward,
    ),
    Claim(
        "k3 against k1",
        "k3 estimates the KL with less variance than k1",
        "joschu.net/blog/kl-approx.html",
        ENUMERATED,
        k3_against_k1,
    ),
    Claim(
        "exact estimate",
        "The exact KL of each position estimates the KL with no more variance than k1",
        "2504.10637",
        ENUMERATED + " of 100 policies",
        exact_estimate,
    ),
)
