"""Estimate from samples how far a policy is on its way from the reference to the optimum.

The optimum of J = E[r] - beta KL(policy || reference) is pi*(y|x) = ref(y|x) exp(r(x,y) / beta) / Z(x), and its value
J* = beta E_x log Z(x) (Ziegler et al. 2019, arXiv:1909.08593, section 2). Log-probabilities are of whole completions,
in nats, and everything belongs to one beta, one temperature and one length limit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Final, NamedTuple, TypeVar

from rlhf_cli.evaluation.tilt import log_sum_exp, tilt

MARGIN: Final = 3.0
"""Nats by which log n has to exceed KL(optimum || reference): fewer samples do not see where the optimum's mass is."""
LEAST: Final = math.ceil(math.exp(MARGIN))
"""Samples of a prompt below which the margin cannot be kept, even where the optimum is the reference."""
COVERED: Final = 0.9
"""Share of the prompts that have to keep the margin."""
MOVING: Final = 0.02
"""Share of the gap by which the estimate may grow from half the samples to all samples."""
ROUNDING: Final = 1e-9
"""A gap below this is an effect of rounding."""
WIDEST: Final = 25.0
"""Half the width of the interval, in percentage points, above which a percentage says too little."""
RESAMPLES: Final = 2000

T = TypeVar("T")


class Draw(NamedTuple):
    """A completion that one of the two models has written."""

    reward: float
    logprob: float
    """Under the policy."""
    ref_logprob: float

    def log_mixture(self, n: int, m: int) -> float:
        """Its log-probability under the mixture of n parts of the reference and m of the policy."""
        parts = ((n, self.ref_logprob), (m, self.logprob))
        return log_sum_exp([math.log(part / (n + m)) + value for part, value in parts if part])


@dataclass(frozen=True, slots=True)
class PromptDraws:
    """The completions of one prompt, drawn from both models."""

    reference: Sequence[Draw]
    policy: Sequence[Draw]
    kl: float
    """KL(policy || reference), nats."""


@dataclass(frozen=True, slots=True)
class Optimum:
    """The share of the optimum's gain over the reference that a policy has: estimated by J*, and bounded without it."""

    percent: float | None
    """100 (J - J_ref) / (J* - J_ref), with its approximate 95 % interval; None where it cannot be trusted."""
    low: float | None
    high: float | None
    reason: str
    """The reason for which there is no percentage; empty, as in the files, where there is one."""
    gain: float | None
    """J - J_ref; None where the reference was not sampled."""
    bound: float | None
    """100 (J - J_ref) / (highest reward - J_ref), a lower bound of the percentage where J > J_ref; None: unknown."""


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """The optimum at one beta, estimated from samples of the reference alone; means over prompts."""

    beta: float
    reference: float
    """J_ref = E_ref[r]"""
    optimum: float
    """J*; too low in expectation."""
    optimum_se: float
    """Standard error of J*; this and the next two are over other completions of the same prompts."""
    reward: float
    """E_pi*[r]"""
    reward_se: float
    kl: float
    """KL(pi* || reference), nats."""
    kl_se: float
    effective: float
    """Effective sample size a prompt."""
    least_effective: float
    """The effective sample size of the worst prompt."""
    reason: str
    """The reason for which the point cannot be trusted; empty, as in JSON, where it can."""


def log_z(reference: Sequence[Draw], policy: Sequence[Draw], beta: float) -> float:
    """log Z of one prompt from n samples of the reference and m of the policy; n or m may be 0.

    log mean exp( r/beta + log ref - log(a ref + (1-a) pi) ), a = n/(n+m): all samples count as samples of the mixture
    (Veach and Guibas 1995, the balance heuristic). Z is unbiased, its logarithm too low in expectation.
    """
    n, m = len(reference), len(policy)
    terms = [draw.reward / beta + draw.ref_logprob - draw.log_mixture(n, m) for draw in (*reference, *policy)]
    return log_sum_exp(terms) - math.log(n + m)


def optimum(prompts: Sequence[PromptDraws], beta: float, highest: float) -> Optimum:
    """Estimate the percentage of the optimum over several prompts, or say why it cannot be estimated.

    J* is estimated prompt by prompt, because pooled prompts overstate it. `highest` is the highest reward there is,
    inf where unknown. The interval is approximate: a bootstrap over prompts, all terms together.
    """
    rewards = [[draw.reward for draw in prompt.reference] for prompt in prompts]
    at_reference = [fmean(values) for values in rewards]
    at_policy = [fmean(draw.reward for draw in prompt.policy) - beta * prompt.kl for prompt in prompts]
    gains = [own - base for own, base in zip(at_policy, at_reference, strict=True)]
    gain = fmean(gains)
    bound = at_least(gain, fmean(at_reference), highest)
    values = [beta * log_z(p.reference, p.policy, beta) for p in prompts]
    halves = [beta * fmean(map(log_z, _halves(p.reference), _halves(p.policy), (beta, beta))) for p in prompts]
    gaps = [value - base for value, base in zip(values, at_reference, strict=True)]
    reason = _why_untrusted(rewards, gaps, fmean(values) - fmean(halves), beta)
    if reason:
        return unknown(reason, gain, bound)
    shares = sorted(_share(a, b) for a, b in _resampled(gains, gaps))
    low, high = _ends(shares)
    if 50 * (high - low) > WIDEST:
        return unknown(f"its 95 % interval spans more than {2 * WIDEST:.0f} percentage points", gain, bound)
    return Optimum(100 * gain / fmean(gaps), 100 * low, 100 * high, "", gain, bound)


def unknown(reason: str, gain: float | None = None, bound: float | None = None) -> Optimum:
    """An optimum without a percentage, for a reason."""
    return Optimum(None, None, None, reason, gain, bound)


def at_least(gain: float, at_reference: float, highest: float) -> float | None:
    """100 (J - J_ref) / (highest - J_ref), since J* is at most `highest`; None where that is unknown or reached."""
    return 100 * gain / (highest - at_reference) if at_reference < highest < math.inf else None


def frontier(rewards: Sequence[Sequence[float]], beta: float) -> FrontierPoint:
    """Estimate the optimum at `beta` from the rewards of samples of the reference: one list a prompt."""
    tilts = [tilt(values, beta) for values in rewards]
    at_reference = [fmean(values) for values in rewards]
    value = beta * fmean(one.log_z for one in tilts)
    halves = [beta * fmean(tilt(half, beta).log_z for half in _halves(values)) for values in rewards]
    gaps = [beta * one.log_z - base for one, base in zip(tilts, at_reference, strict=True)]
    return FrontierPoint(
        beta=beta,
        reference=fmean(at_reference),
        optimum=value,
        optimum_se=beta * math.hypot(*(one.log_z_se for one in tilts)) / len(tilts),
        reward=fmean(one.reward for one in tilts),
        reward_se=math.hypot(*(one.reward_se for one in tilts)) / len(tilts),
        kl=fmean(one.kl for one in tilts),
        kl_se=math.hypot(*(one.kl_se for one in tilts)) / len(tilts),
        effective=fmean(one.effective for one in tilts),
        least_effective=min(one.effective for one in tilts),
        reason=_why_untrusted(rewards, gaps, value - fmean(halves), beta),
    )


def share_covered(rewards: Sequence[Sequence[float]], beta: float) -> float:
    """Share of the prompts with enough samples of the reference to keep the margin; one list of rewards a prompt."""
    return fmean(math.log(len(values)) - tilt(values, beta).kl >= MARGIN for values in rewards)


def _why_untrusted(rewards: Sequence[Sequence[float]], gaps: Sequence[float], moved: float, beta: float) -> str:
    """Say why J* cannot be trusted, if so. `rewards`: the reference's; `moved`: J* of all samples less J* of half."""
    samples = min(map(len, rewards))
    if samples < LEAST:
        return f"needs at least {LEAST} samples a prompt (got {samples})"
    covered = share_covered(rewards, beta)
    if covered < COVERED:
        return (
            f"too few samples: log n - KL* >= {MARGIN:g} for {100 * covered:.0f} % of the prompts, "
            f"not {100 * COVERED:.0f} %"
        )
    low, _ = _ends(sorted(mean for (mean,) in _resampled(gaps)))
    if low < ROUNDING:
        return f"the gap J* - J_ref is not clear of 0 (interval from {round(low, 9) + 0.0:.2g})"
    grown = moved / fmean(gaps)
    if grown <= MOVING:
        return ""
    return f"too few samples: doubling them moved J* by {100 * grown:.1f} % of the gap, more than {100 * MOVING:.0f} %"


def _halves(values: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    middle = len(values) // 2
    return values[:middle], values[middle:]


def _resampled(*columns: Sequence[float]) -> list[tuple[float, ...]]:
    """Means of the columns over prompts drawn with replacement by a fixed seed, the same prompts for every column."""
    source, size = Random(0), len(columns[0])
    drawn = (source.choices(range(size), k=size) for _ in range(RESAMPLES))
    return [tuple(fmean(column[row] for row in rows) for column in columns) for rows in drawn]


def _share(gain: float, gap: float) -> float:
    """gain / gap; infinite where there is no gap."""
    return gain / gap if gap > 0 else math.copysign(math.inf, gain)


def _ends(ordered: Sequence[float]) -> tuple[float, float]:
    """The ends of the 95 % interval of sorted resamples."""
    last = len(ordered) - 1
    return ordered[round(0.025 * last)], ordered[round(0.975 * last)]


def progress_to_optimum(progress: Optimum) -> str:
    """A sentence without its dot: how much of the optimum's gain a policy has, or why that is not known."""
    shares = []
    if progress.percent is not None:
        ends = (progress.percent, progress.low, progress.high)
        shares.append("about {} % (95 % interval {} to {})".format(*(round(end) for end in ends if end is not None)))
    if progress.bound is not None and progress.bound > 0:
        shares.append(f"at least {progress.bound:.0f} %")
    if not shares:
        return f"How much of the largest possible gain in J this policy has is not known: {progress.reason}"
    closer = f"; no closer estimate: {progress.reason}" if progress.reason else ""
    return f"Of the largest possible gain in J, this policy has {', and '.join(shares)}{closer}"
