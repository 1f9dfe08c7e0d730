"""The running mean of past returns: the only thing an algorithm carries from one step to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class RunningMean:
    """A mean over everything observed so far; zero before that. Part of every checkpoint."""

    count: int = 0
    mean: float = 0.0

    def observe(self, values: Tensor) -> RunningMean:
        """The mean with `values` [B] added."""
        count = self.count + len(values)
        return RunningMean(count, self.mean + (float(values.double().sum()) - len(values) * self.mean) / count)
