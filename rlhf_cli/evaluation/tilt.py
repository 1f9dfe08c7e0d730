"""The optimum of one prompt, pi*(y|x) = ref(y|x) exp(r / beta) / Z(x), from samples of the reference alone.

Self-normalised importance weights; their standard errors are in Owen 2013, Monte Carlo theory, methods and examples,
chapter 9.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tilt:
    """The optimum of one prompt, estimated from samples of the reference alone."""

    log_z: float
    reward: float
    """E_pi*[r]"""
    kl: float
    """KL(pi* || reference), nats; the estimate is never above the logarithm of the number of samples."""
    effective: float
    """Effective sample size: how many equal weights would be as good."""
    log_z_se: float
    """Standard error of `log_z`: sd(w) / (mean(w) sqrt(n)) of the weights w = exp(r / beta). It and the next two are
    infinite for one sample."""
    reward_se: float
    kl_se: float


def tilt(rewards: Sequence[float], beta: float) -> Tilt:
    """Estimate the optimum of one prompt by self-normalised weights exp(r / beta) on samples of the reference.

    The standard errors are of first order (the delta method).
    """
    exponents = [reward / beta for reward in rewards]
    total = log_sum_exp(exponents)
    weights = [math.exp(exponent - total) for exponent in exponents]
    reward = math.fsum(weight * value for weight, value in zip(weights, rewards, strict=True))
    count = len(rewards)
    log_z = total - math.log(count)
    effect_on_z = [weight - 1 / count for weight in weights]
    effect_on_reward = [weight * (value - reward) for weight, value in zip(weights, rewards, strict=True)]
    effect_on_kl = [a / beta - b for a, b in zip(effect_on_reward, effect_on_z, strict=True)]
    effective = 1 / math.fsum(weight * weight for weight in weights)
    return Tilt(
        log_z,
        reward,
        reward / beta - log_z,
        effective,
        *(
            math.hypot(*each) * math.sqrt(count / (count - 1)) if count > 1 else math.inf
            for each in (effect_on_z, effect_on_reward, effect_on_kl)
        ),
    )


def log_sum_exp(values: Sequence[float]) -> float:
    """log sum exp of the values, without overflow."""
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))
