"""Several sources, each with its share of every step."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from rlhf_cli.data.csv import Csv
from rlhf_cli.data.hub import Hub
from rlhf_cli.data.jsonl import Jsonl
from rlhf_cli.data.parquet import Parquet
from rlhf_cli.data.text import Text
from rlhf_cli.settings import Settings

One = Jsonl | Csv | Parquet | Text | Hub
PART: Final = "data_part"
"""The column with the name of a row's part."""


class Mixture(Settings):
    """Parts are read, filtered and cut each by its own settings; held-out prompts come from each by its share."""

    kind: Literal["mixture"]
    parts: dict[str, Annotated[One, Field(discriminator="kind")]] = Field(min_length=1)
    """Name -> source."""
    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]]
    """Name -> how many prompts come from there, in proportion to the others."""

    @model_validator(mode="after")
    def _every_part_has_a_weight(self) -> Mixture:
        if odd := sorted(self.parts.keys() ^ self.weights.keys()):
            lacks = "weight" if odd[0] in self.parts else "part"
            raise ValueError(f"'{odd[0]}' has no {lacks}: parts and weights have the same names")
        return self

    @property
    def sets_aside(self) -> bool:
        """Whether held-out rows are taken from the training rows of any part."""
        return any(part.sets_aside for part in self.parts.values())

    def place(self, *, held_out: bool) -> str:
        """All places, for messages."""
        return ", ".join(part.place(held_out=held_out) for part in self.parts.values())
