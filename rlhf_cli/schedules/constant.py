"""value(step) = value."""

from typing import Literal

from pydantic import Field

from rlhf_cli.settings import Settings


class Constant(Settings):
    """The same value at every step."""

    kind: Literal["constant"]
    value: float = Field(ge=0, allow_inf_nan=False)
    """The value at every step."""

    @property
    def lowest(self) -> float:
        """The smallest value over the run."""
        return self.value

    def at(self, step: int, total: int) -> float:
        """The value at `step` of 0 .. total - 1."""
        return self.value
