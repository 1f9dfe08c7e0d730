"""The running mean of past returns: the only state that an algorithm carries from step to step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class RunningMean:
    """The mean of all values observed so far; zero before the first. Part of every checkpoint."""

    count: int = 0
    mean: float = 0.0

    def observe(self, values: Tensor) -> RunningMean:
        """The mean after `values` [B]."""
        count = self.count + len(values)
        return RunningMean(count, self.mean + (float(values.double().sum()) - len(values) * self.mean) / count)
