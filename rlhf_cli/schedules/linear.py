"""value(step) = (1 - s) start + s end with s = step / (total - 1): a straight line from `start` to `end`."""

from typing import Literal

from rlhf_cli.schedules.ramp import Ramp


class Linear(Ramp):
    """A straight line from `start` to `end` over the run."""

    kind: Literal["linear"]

    def share(self, step: int, last: int) -> float:
        """s = step / last."""
        return step / last
