"""value(step) = (1 - s) start + s end, where s grows from 0 to 1 over the run: the base of linear and cosine."""

from abc import abstractmethod

from pydantic import Field

from rlhf_cli.settings import Settings


class Ramp(Settings):
    """A value that moves from `start` to `end` over the run."""

    kind: str
    start: float = Field(ge=0, allow_inf_nan=False)
    """Value of the first step."""
    end: float = Field(ge=0, allow_inf_nan=False)
    """Value of the last step."""

    @property
    def lowest(self) -> float:
        """The smallest value over the run."""
        return min(self.start, self.end)

    def at(self, step: int, total: int) -> float:
        """The value at `step` of 0 .. total - 1."""
        share = self.share(step, max(total - 1, 1))
        return (1 - share) * self.start + share * self.end  # exact at both ends

    @abstractmethod
    def share(self, step: int, last: int) -> float:
        """s: how much of the way from `start` to `end` is done at `step` of 0 .. `last`, in [0, 1]."""
