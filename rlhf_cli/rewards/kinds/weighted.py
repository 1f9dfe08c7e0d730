"""Several rewards at once: the sum of their scores, each times its weight. Every part is logged by its name."""

import math
from typing import Annotated, Final, Literal, Self

from pydantic import StringConstraints, model_validator

from rlhf_cli.rewards.kinds import SingleSource
from rlhf_cli.rewards.kinds.base import Source, highest_given
from rlhf_cli.settings import Finite

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
RESERVED: Final = frozenset(("mean", "mean_se", "same_in_group", "failures", "retries", "raw", "scale"))
"""Names under reward/ in metrics.jsonl that no part may take."""


class Weighted(Source):
    """A weighted sum of named parts."""

    kind: Literal["weighted"]
    parts: dict[Name, SingleSource]
    """The rewards to add: +reward@reward.parts.NAME=OPTION."""
    weights: dict[Name, Finite]
    """The factor of each part's score; a negative weight punishes."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.parts) < 1:
            raise ValueError("has no parts: add one by +reward@reward.parts.NAME=OPTION, with reward.weights.NAME")
        if reserved := sorted(self.parts.keys() & RESERVED):
            raise ValueError(
                f"cannot have a part of the name {reserved[0]}: metrics.jsonl has a reward/{reserved[0]} already"
            )
        if lacking := sorted(self.parts.keys() - self.weights.keys()):
            raise ValueError(f"has no weight for {', '.join(lacking)}: add +reward.weights.{lacking[0]}=1.0")
        if unknown := sorted(self.weights.keys() - self.parts.keys()):
            raise ValueError(f"has a weight for {', '.join(unknown)}, which is none of its parts")
        return self

    @property
    def highest(self) -> float:
        """The weighted sum of the parts' highest scores; infinity where one of them is unknown."""
        weights = [(self.weights[name], highest_given(part)) for name, part in self.parts.items() if self.weights[name]]
        return sum(weight * highest if weight > 0 else math.inf for weight, highest in weights)

    @property
    def is_repeatable(self) -> bool:
        """Whether all parts are."""
        return all(part.is_repeatable for part in self.parts.values())

    @property
    def strings(self) -> tuple[str, ...]:
        """The strings of all parts."""
        return tuple(text for part in self.parts.values() for text in part.strings)

    @property
    def columns_read(self) -> tuple[str, ...] | None:
        """The columns of all parts."""
        columns: tuple[str, ...] = ()
        for part in self.parts.values():
            if part.columns_read is None:
                return None
            columns += part.columns_read
        return columns

    def check(self, key: str) -> None:
        """Raise UserError where a part needs something that is missing."""
        for name, part in self.parts.items():
            part.check(f"{key}.parts.{name}")

    def notice(self, log: str | None = None) -> str | None:
        """The notes of all parts."""
        return "; ".join(filter(None, (part.notice(log) for part in self.parts.values()))) or None
