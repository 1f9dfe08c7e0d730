"""Map values to places on a picture, and choose round ticks between two ends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values low .. high to places start .. end, on a straight line or in the logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The place of `value`."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def has_place(value: float, log: bool) -> bool:
    """Whether the value has a place on the axis."""
    return math.isfinite(value) and not (log and value <= 0)


def extent(values: Sequence[float], log: bool = False) -> tuple[float, float]:
    """The smallest and largest value, moved apart where they differ by rounding; without values 0 .. 1 or 1 .. 10."""
    if not values:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = min(values), max(values)
    if high - low > max(1e-6 * max(abs(low), abs(high)), 1e-300):
        return low, high
    if log:
        return low / 2, high * 2
    room = max(abs(low), abs(high)) / 10 or 1.0
    return low and low - room, high + room  # nothing moved: most of what is drawn has no values below 0


def ticks(low: float, high: float, count: int, outside: bool = False) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between `low` and `high`, in at most `count` steps.

    With `outside`, up to one more at each end, so that the ticks enclose the range.
    """
    exponent = math.floor(math.log10((high - low) / count))
    ratio = (high - low) / count / 10.0**exponent
    factor = next((f for f in (1, 2, 5) if ratio <= f * (1 + 1e-9)), 10)
    step = factor * 10.0**exponent
    # A rounding error must not add or take away a tick.
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if outside:
        # Nobody sees a millionth of a step, and a KL of -1e-8 is no reason for a tick below zero.
        first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    # In whole numbers up to the one division: 3 / 10, not 3 * 0.1.
    multiples = (k * factor for k in range(first, last + 1))
    return [k / 10**-exponent if exponent < 0 else float(k * 10**exponent) for k in multiples]


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """Powers of ten between two positive ends, with 2 and 5 times them where there are few; no more than `count`."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        candidates = [f * 10.0**e for e in exponents for f in factors if low <= f * 10.0**e <= high]
        if len(candidates) <= count:
            break
    if len(candidates) < 2:
        return ticks(low, high, count)
    return candidates[:: math.ceil(len(candidates) / count)]


def decades(low: float, high: float, count: int) -> list[float]:
    """Two or more powers of ten that enclose two positive ends, in at most about `count` steps."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    step = max(math.ceil((last - first) / count), 1)
    return [10.0 ** (step * e) for e in range(first // step, max(-(-last // step), first // step + 1) + 1)]


def labels(values: Sequence[float], log: bool = False) -> list[str]:
    """The ticks as text: with just enough digits to differ, or with `log` each as short as possible."""
    if log:
        return [_tidy(f"{value:g}") for value in values]
    largest = max(map(abs, values), default=0.0) or 1.0
    step = min((b - a for a, b in pairwise(values)), default=largest)
    first_digit, last_digit = math.floor(math.log10(largest)), math.floor(math.log10(step) + 1e-9)
    if last_digit >= -4 and first_digit <= 5:
        return [_tidy(f"{value:.{max(-last_digit, 0)}f}") for value in values]
    return [_tidy(f"{value:.{max(first_digit - last_digit, 0)}e}") if value else "0" for value in values]


def _tidy(number: str) -> str:
    mantissa, e, exponent = number.partition("e")
    return f"{mantissa}{e}{int(exponent) if e else ''}".replace("-", "−")
