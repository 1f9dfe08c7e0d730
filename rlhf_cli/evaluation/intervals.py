"""Means with standard errors and two-sided t intervals; shares with Wilson's interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist, fmean, stdev
from typing import Self


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean of `count` independent values, and the half-width of its 95 % interval."""

    mean: float
    half_width: float
    count: int

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


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval, as it is stored."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, found: Estimate | Share) -> Self:
        """Take the interval of an estimate or a share."""
        return cls(found.mean, found.low, found.high)


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


def share_of(mean: float, values: Sequence[float], most: float) -> Share:
    """The share `mean` of observations in clusters, with Wilson's interval, which stays within 0 and 1.

    `values` has one a cluster, two or more; their mean has the standard error se of the share. The interval is that of
    n = mean (1 - mean) / se^2 observations (Korn and Graubard 1998): `most` at most, all that there are, and one a
    cluster where the clusters do not differ. Student's t takes the place of the normal quantile, since se is estimated.
    """
    error = standard_error(values)
    count = min(mean * (1 - mean) / error**2, most) if error else len(values)
    return wilson(mean, count, t_quantile(0.975, len(values) - 1))


def estimate(values: Sequence[float], level: float = 0.95) -> Estimate:
    """The mean of independent values with its t interval; the half-width is infinite for a single value."""
    half_width = standard_error(values) * t_quantile((1 + level) / 2, len(values) - 1) if len(values) > 1 else math.inf
    return Estimate(fmean(values), half_width, len(values))


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean; infinite for a single value, NaN where a value is not finite."""
    if not all(map(math.isfinite, values)):
        return math.nan
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf


@cache
def t_quantile(probability: float, degrees: float) -> float:
    """Quantile of Student's t for a probability above 1/2; `degrees` is above 0, and need not be whole."""
    low, high = 0.0, 1.0
    while t_tail(high, degrees) > 2 * (1 - probability):
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, degrees) > 2 * (1 - probability) else (low, middle)
    return high


def t_tail(t: float, degrees: float) -> float:
    """Probability that Student's t is further from 0 than `t`; 1 where `t` is NaN.

    It is the regularised incomplete beta function I_x(degrees / 2, 1 / 2) at x = degrees / (degrees + t^2) (Abramowitz
    and Stegun 26.7.1), by its continued fraction (26.5.8).
    """
    square = t * t
    a, b, x, rest = degrees / 2, 0.5, degrees / (degrees + square), square / (degrees + square)
    if not rest > 0:  # NaN beside an infinite square, 0 beside one that is nearly so
        return 0.0 if math.isinf(square) else 1.0
    logs = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) - a * math.log1p(square / degrees)
    scale = math.exp(logs + b * math.log(rest))
    if square > 3:  # from 1 (one degree) to 3 (many), where t^2 = 3 d / (d + 2), both converge alike
        return scale * _beta_fraction(a, b, x) / a
    return 1 - scale * _beta_fraction(b, a, rest) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function, by Lentz's method."""
    upper, lower = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value, m, factor = lower, 0, 0.0
    while abs(factor - 1) > 1e-15:
        m += 1
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            upper, lower = 1 + step / upper, 1 / (1 + step * lower)
            factor = upper * lower
            value *= factor
    return value


def with_error(value: Estimate | Share, digits: int, sign: str = "") -> str:
    """The mean and the half-width of its 95 % interval, or a share's two ends; `sign="+"` shows a plus too."""
    mean = f"{value.mean:{sign}z.{digits}f}"  # z: never -0.000
    if isinstance(value, Share):
        return f"{mean} [{value.low:.{digits}f}, {value.high:.{digits}f}]"
    return f"{mean} ± {value.half_width:.{digits}f}"
