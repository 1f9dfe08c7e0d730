"""value(step) = (1 - s) start + s end with s = (1 - cos(pi * step / (total - 1))) / 2: slow, fast, slow."""

import math
from typing import Literal

from rlhf_cli.schedules.ramp import Ramp


class Cosine(Ramp):
    """Half a cosine from `start` to `end` over the run."""

    kind: Literal["cosine"]

    def share(self, step: int, last: int) -> float:
        """s = (1 - cos(pi * step / last)) / 2."""
        return (1 - math.cos(math.pi * step / last)) / 2
