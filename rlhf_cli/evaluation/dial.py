"""A run's policy at other betas, from the completions of its last evaluation: the frontier without more training.

The optimum at beta is pi_ref exp(r / beta) / Z. A policy pi that is the optimum at its own beta is therefore, at
another beta', pi_ref^(1 - w) pi^w / Z with w = beta / beta' (Liu et al. 2024, arXiv:2402.02992, equation 3; there it is
decoded token by token, here whole completions are weighted, which is exact). All that both models have sampled counts
as samples of their mixture (Veach and Guibas 1995, the balance heuristic), with self-normalised weights.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from rlhf_cli.evaluation.evaluation import Completions, Evaluation
from rlhf_cli.evaluation.intervals import Estimate, estimate
from rlhf_cli.evaluation.optimum import Draw
from rlhf_cli.evaluation.tilt import log_sum_exp

LEAST_SHARE: Final = 0.1
"""Share of effective samples below which a point is refused."""
FURTHEST: Final = 1e6
"""The largest weight that numbers stand: nothing was trained far beyond 1."""
LEAST: Final = 10
"""Effective samples a prompt below which a point is refused: the KL of fewer is too low."""


@dataclass(frozen=True, slots=True)
class DialPoint:
    """The policy at one beta; means over prompts with 95 % intervals."""

    beta: float
    weight: float
    """w: 0 is the reference, 1 the policy."""
    effective: float | None
    """Effective samples as a share of all, mean over prompts, in (0, 1]; None with one completion, which is all."""
    reason: str
    """The reason for which the point is refused; empty where it is not."""
    objective: Estimate | None
    """E[r] - beta KL; None, as the next two are, where the point is refused."""
    reward: Estimate | None
    kl: Estimate | None
    """KL(policy || reference), nats a completion."""


def dial(evaluation: Evaluation, betas: Sequence[float]) -> list[DialPoint]:
    """Estimate the evaluated policy at each beta above 0, from its own completions and those of the reference."""
    own = Completions(evaluation.reward, evaluation.logprob, evaluation.ref_logprob).draws()
    other = evaluation.reference.draws() if evaluation.reference else [[] for _ in own]
    points = []
    for beta in betas:
        weight = evaluation.beta / beta
        blends = (_blend(*each, min(weight, FURTHEST)) for each in zip(other, own, strict=True))
        rewards, kls, effective = zip(*blends, strict=True)
        share, count, reason = fmean(effective), len(own[0]) + len(other[0]), ""
        if weight != 1:
            reason = _why_refused(weight, share, share * count, evaluation)
        objectives = [reward - beta * kl for reward, kl in zip(rewards, kls, strict=True)]
        figures = [None if reason else estimate(values) for values in (objectives, rewards, kls)]
        points.append(DialPoint(beta, weight, share if count > 1 else None, reason, *figures))
    return points


def _why_refused(weight: float, share: float, count: float, evaluation: Evaluation) -> str:
    """Say why a point cannot be trusted; empty where it can.

    Towards the reference the policy's samples miss most of it, and their effective number does not tell.
    """
    if weight < 1 and evaluation.reference is None:
        return f"the reference was not sampled: {evaluation.optimum.reason}"
    if share < LEAST_SHARE:
        return f"{share:.0%} effective samples, less than {LEAST_SHARE:.0%}"
    return f"{count:.1f} effective samples a prompt, fewer than {LEAST}" if count < LEAST else ""


def _blend(reference: Sequence[Draw], policy: Sequence[Draw], weight: float) -> tuple[float, float, float]:
    """Reward, KL to the reference (nats) and share of effective samples of pi_ref^(1 - w) pi^w / Z on one prompt."""
    n, m = len(reference), len(policy)
    draws = [*reference, *policy]
    logs = [(1 - weight) * draw.ref_logprob + weight * draw.logprob - draw.log_mixture(n, m) for draw in draws]
    total = log_sum_exp(logs)
    shares = [math.exp(value - total) for value in logs]
    reward = math.fsum(share * draw.reward for share, draw in zip(shares, draws, strict=True))
    ratio = math.fsum(share * (draw.logprob - draw.ref_logprob) for share, draw in zip(shares, draws, strict=True))
    kl = weight * ratio - (total - math.log(n + m))
    return reward, kl, 1 / math.fsum(share * share for share in shares) / (n + m)
