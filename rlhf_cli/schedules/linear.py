"""value(step) = (1 - s) start + s end with s = step / (total - 1): the first step has `start`, the last one `end`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlhf_cli.settings import Settings


class Linear(Settings):
    """A straight line from `start` to `end` over the run."""

    kind: Literal["linear"]
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
        share = step / max(total - 1, 1)
        return (1 - share) * self.start + share * self.end  # exact at both ends
