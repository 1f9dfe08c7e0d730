"""The `reward` group: a source of scores, and what is made of them before anything is learned from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from rlhf_cli.rewards.kinds import Part
from rlhf_cli.rewards.kinds.weighted import Weighted
from rlhf_cli.settings import Settings, as_tuple

Bound = Annotated[float, Field(allow_inf_nan=False)]
AnySource = Annotated[Part | Weighted, Field(discriminator="kind")]


class Reward(Settings):
    """One mapping in YAML: the settings of the source that `kind` names, and these."""

    source: AnySource
    """Where the scores come from."""
    clip: Annotated[tuple[Bound, Bound], BeforeValidator(as_tuple)] | None
    """The lowest and the highest score that count, [low, high]; null: all as they are."""
    length_penalty: float = Field(ge=0, allow_inf_nan=False)
    """Subtracted for every token of a completion."""
    truncated: Literal["keep", "penalty", "mask"]
    """A completion cut at max_new_tokens is judged as it stands, or loses truncated_penalty, or nothing is learned from
    it (the score is then that of the finished ones alone)."""
    truncated_penalty: float = Field(ge=0, allow_inf_nan=False)
    """What a cut completion loses under truncated=penalty."""
    normalise: bool
    """Whether scores are learned from in units of their standard deviation over the run so far, from their mean."""

    @model_validator(mode="before")
    @classmethod
    def _apart(cls, given: Any) -> Any:
        """Takes what is of the source from what is made of its scores."""
        if not isinstance(given, dict) or "source" in given:
            return given
        own = cls.model_fields.keys() & given.keys()
        return {name: given[name] for name in own} | {"source": {k: v for k, v in given.items() if k not in own}}

    @model_serializer(mode="wrap")
    def _together(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The mapping as it stands in YAML."""
        given: dict[str, Any] = plain(self)
        source: dict[str, Any] = given.pop("source")
        return source | given

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.clip is not None and self.clip[0] >= self.clip[1]:
            raise ValueError(f"clip must be [low, high] with low below high (got {list(self.clip)})")
        return self

    @property
    def highest(self) -> float:
        """The highest score that a completion can get; infinity where nobody knows."""
        return min(self.source.highest, self.clip[1]) if self.clip else self.source.highest

    @property
    def learned_otherwise(self) -> str:
        """Why the scores are not what is learned from, so that nobody knows the optimum; empty where they are."""
        if self.truncated == "mask":
            return "nothing is learned from cut completions, which are evaluated"
        return "learned from normalised scores, evaluated as they are" if self.normalise else ""

    @property
    def shapes(self) -> bool:
        """Whether a score may differ from the source's own, normalising aside."""
        return self.clip is not None or self.length_penalty > 0 or self.truncated == "penalty"
