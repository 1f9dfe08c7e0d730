"""value(step) = (1 - s) start + s end with s = (1 - cos(pi * step / (total - 1))) / 2: from `start` to `end`."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from rlhf_cli.settings import Settings


class Cosine(Settings):
    """Half a cosine from `start` to `end` over the run."""

    kind: Literal["cosine"]
    start: float = Field(ge=0, allow_inf_nan=False)
    """Value of the first step."""
    end: float = Field(ge=0, allow_inf_nan=False)
    """Value of the last step."""

    @property
    def lowest(self) -> float:
        """The smallest value it takes."""
        return min(self.start, self.end)

    def at(self, step: int, total: int) -> float:
        """The value for `step` of 0 .. total - 1."""
        share = (1 - math.cos(math.pi * step / max(total - 1, 1))) / 2
        return (1 - share) * self.start + share * self.end  # exact at both ends
