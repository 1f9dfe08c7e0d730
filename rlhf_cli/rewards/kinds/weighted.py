"""Several rewards at once: the sum of their scores, each times its weight; every part is logged by its name."""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from rlhf_cli.rewards.kinds import Part
from rlhf_cli.rewards.kinds.base import Source

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
TAKEN: Final = frozenset(("mean", "mean_se", "same_in_group", "failures", "retries", "raw", "scale"))
"""What metrics.jsonl has under reward/ besides the parts."""


class Weighted(Source):
    """A weighted sum of named parts."""

    kind: Literal["weighted"]
    parts: dict[Name, Part]
    """The rewards that are added: +reward@reward.parts.NAME=OPTION."""
    weights: dict[Name, Annotated[float, Field(allow_inf_nan=False)]]
    """What each part's score is multiplied by; a negative weight punishes."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.parts) < 1:
            raise ValueError("has no parts: add one by +reward@reward.parts.NAME=OPTION, with reward.weights.NAME")
        if taken := sorted(self.parts.keys() & TAKEN):
            raise ValueError(
                f"cannot have a part of the name {taken[0]}: metrics.jsonl has a reward/{taken[0]} already"
            )
        if lacking := sorted(self.parts.keys() - self.weights.keys()):
            raise ValueError(f"has no weight for {', '.join(lacking)}: add +reward.weights.{lacking[0]}=1.0")
        if unknown := sorted(self.weights.keys() - self.parts.keys()):
            raise ValueError(f"has a weight for {', '.join(unknown)}, which is none of its parts")
        return self

    @property
    def highest(self) -> float:
        """The sum of what each part can reach; infinity where nobody knows that of one."""
        weights = [(self.weights[name], part.highest) for name, part in self.parts.items() if self.weights[name]]
        return sum(weight * highest if weight > 0 else math.inf for weight, highest in weights)

    def check(self, key: str) -> None:
        """Raise UserError where a part lacks something."""
        for name, part in self.parts.items():
            part.check(f"{key}.parts.{name}")

    def notice(self, log: str = "") -> str:
        """What its parts have to say."""
        return "; ".join(filter(None, (part.notice(log) for part in self.parts.values())))
