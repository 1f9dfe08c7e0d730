"""The `reward` group of the configuration: a source of scores, and how to shape them."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from rlhf_cli.rewards.kinds import SingleSource
from rlhf_cli.rewards.kinds.base import highest_given
from rlhf_cli.rewards.kinds.weighted import Weighted
from rlhf_cli.settings import Finite, Settings, as_tuple

AnySource = Annotated[SingleSource | Weighted, Field(discriminator="kind")]


class Reward(Settings):
    """The source of the scores and their shaping. In YAML both are one mapping, and `kind` names the source."""

    source: AnySource
    """The source of the scores."""
    clip: Annotated[tuple[Finite, Finite], BeforeValidator(as_tuple)] | None
    """[low, high]: scores outside count as the nearer limit; null: no limits."""
    length_penalty: float = Field(ge=0, allow_inf_nan=False)
    """Subtracted for every token of a completion."""
    truncated: Literal["keep", "penalty", "mask"]
    """For a completion cut at max_new_tokens: keep its score, subtract truncated_penalty, or learn nothing from it (the
    policy then maximises the score of completions that end)."""
    truncated_penalty: float = Field(ge=0, allow_inf_nan=False)
    """Subtracted from the score of a cut completion under truncated=penalty."""
    special_tokens: Literal["auto", "strip", "keep"] = "auto"
    """Special tokens in the texts of completions: strip drops them, keep keeps them; auto keeps those that the chat
    template writes or that the reward looks for (patterns, words, rubric, the file of a function). The token that
    ended a completion, and padding, never stay."""
    normalise: bool
    """Whether to learn from scores less their mean, in units of their standard deviation, both over the run so far."""

    @model_validator(mode="before")
    @classmethod
    def _separate_source(cls, value: Any) -> Any:
        """Move the source's settings into a mapping of their own; with a `kind`, `source` is no setting of ours."""
        if not isinstance(value, dict) or ("source" in value and "kind" not in value):
            return value
        own = (cls.model_fields.keys() - {"source"}) & value.keys()
        return {name: value[name] for name in own} | {"source": {k: v for k, v in value.items() if k not in own}}

    @model_serializer(mode="wrap")
    def _join_source(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Put the source's settings back into the one mapping of the YAML."""
        shaping: dict[str, Any] = serialize(self)
        source: dict[str, Any] = shaping.pop("source")
        return source | shaping

    @model_validator(mode="after")
    def _ordered_clip(self) -> Self:
        if self.clip is not None and self.clip[0] >= self.clip[1]:
            raise ValueError(f"clip must be [low, high] with low below high (got {list(self.clip)})")
        return self

    @property
    def highest(self) -> float:
        """The highest score that a completion can get; infinity where it is unknown."""
        highest = highest_given(self.source)
        return min(max(highest, self.clip[0]), self.clip[1]) if self.clip else highest

    @property
    def why_no_optimum(self) -> str | None:
        """Say why training does not maximise the scores that evaluations measure; None where it does."""
        if self.is_none:
            return "without a reward the optimum is the reference, and the KL is the distance to it"
        if self.truncated == "mask":
            return "nothing is learned from cut completions, which are evaluated"
        return "learned from normalised scores, evaluated as they are" if self.normalise else None

    @property
    def is_none(self) -> bool:
        """Whether every completion has the same score, so that the KL is all that there is to learn from."""
        return self.source.kind == "none" and not self.has_shaping

    @property
    def has_shaping(self) -> bool:
        """Whether shaping can change a score; `normalise` does not count."""
        return self.clip is not None or self.length_penalty > 0 or self.truncated == "penalty"
