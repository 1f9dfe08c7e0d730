"""A mixture of sources: each step takes prompts from every source in proportion to its weight."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from rlhf_cli.data.csv import Csv
from rlhf_cli.data.hub import Hub
from rlhf_cli.data.jsonl import Jsonl
from rlhf_cli.data.labelled import Labelled
from rlhf_cli.data.parquet import Parquet
from rlhf_cli.data.text import Text
from rlhf_cli.settings import Settings

SingleSource = Jsonl | Csv | Parquet | Text | Hub | Labelled
PART_COLUMN: Final = "data_part"
"""The column that holds the name of a row's part."""


class Mixture(Settings):
    """Several sources, called parts, each with its own settings. Held-out prompts too come from all parts by weight."""

    kind: Literal["mixture"]
    parts: dict[str, Annotated[SingleSource, Field(discriminator="kind")]] = Field(min_length=1)
    """Name -> source."""
    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]]
    """Name -> share of the prompts, in proportion to the other weights."""

    @model_validator(mode="after")
    def _every_part_has_a_weight(self) -> Self:
        if unmatched := sorted(self.parts.keys() ^ self.weights.keys()):
            lacks = "weight" if unmatched[0] in self.parts else "part"
            raise ValueError(f"'{unmatched[0]}' has no {lacks}: parts and weights have the same names")
        return self

    @property
    def sets_aside(self) -> bool:
        """Whether any part's held-out rows are taken from its training rows."""
        return any(part.sets_aside for part in self.parts.values())

    def place(self, *, held_out: bool) -> str:
        """The places of all parts, for messages."""
        return ", ".join(part.place(held_out=held_out) for part in self.parts.values())
