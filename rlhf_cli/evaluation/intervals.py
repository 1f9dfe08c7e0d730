"""Means with standard errors and two-sided t intervals; shares with Wilson's interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean of `count` independent values, and the half-width of its 95 % interval."""

    mean: float
    half_width: float
    count: int

    @property
    def error(self) -> float:
        """Standard error of the mean; infinite for a single value."""
        return self.half_width / t_quantile(0.975, self.count - 1) if self.count > 1 else math.inf

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.mean + self.half_width


@dataclass(frozen=True, slots=True)
class Share:
    """A share in [0, 1] with its 95 % interval, and the number of independent observations that it is as good as."""

    mean: float
    low: float
    high: float
    count: float


def wilson(mean: float, count: float, z: float = NormalDist().inv_cdf(0.975)) -> Share:
    """A share of `count` observations with Wilson's score interval (1927); from 0 to 1 where there is none.

    Where an observation may be 1/2, the interval is rather too wide: the variance of such observations is at most
    mean (1 - mean).
    """
    if not count:
        return Share(math.nan, 0.0, 1.0, 0.0)
    shrink = 1 + z * z / count
    center = (mean + z * z / (2 * count)) / shrink
    half_width = z / shrink * math.sqrt(mean * (1 - mean) / count + z * z / (4 * count * count))
    return Share(mean, max(0.0, center - half_width), min(1.0, center + half_width), count)


def estimate(values: Sequence[float], level: float = 0.95) -> Estimate:
    """The mean of independent values with its t interval; the half-width is infinite for a single value."""
    half_width = standard_error(values) * t_quantile((1 + level) / 2, len(values) - 1) if len(values) > 1 else math.inf
    return Estimate(fmean(values), half_width, len(values))


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean; infinite for a single value, NaN where a value is not finite."""
    if not all(map(math.isfinite, values)):
        return math.nan
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf


def t_quantile(probability: float, degrees: float) -> float:
    """Quantile of Student's t; exact for 1 and 2 degrees of freedom.

    From 5 on it is within 1e-3 of the tables for 95 % intervals: Cornish-Fisher expansion, Abramowitz and Stegun
    26.7.5.
    """
    if degrees == 1:
        return math.tan(math.pi * (probability - 0.5))
    if degrees == 2:
        return (2 * probability - 1) / math.sqrt(2 * probability * (1 - probability))
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / degrees**power for power, term in enumerate(terms))


def with_error(value: Estimate, digits: int, sign: str = "") -> str:
    """The mean and the half-width of its 95 % interval; `sign="+"` shows a plus too."""
    mean = round(value.mean, digits) + 0.0  # never -0.000
    return f"{mean:{sign}.{digits}f} ± {value.half_width:.{digits}f}"
