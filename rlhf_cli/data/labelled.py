"""Pairs from texts with labels, in jsonl files: a text with the better label is preferred to one with another.

Both texts of a pair have the same prompt. Each text is in one pair at most, so that no held-out text is trained on.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from rlhf_cli.data.conversion import unwanted_column
from rlhf_cli.data.jsonl import Jsonl, read_jsonl
from rlhf_cli.data.preference import CHOSEN, REJECTED
from rlhf_cli.data.source import FileSource, RawRow, Value, is_any_of, spellings
from rlhf_cli.errors import bad_data
from rlhf_cli.settings import IS_PROSE, as_tuple

_SHOWN: Final = 5
"""The number of labels that an error names."""

Labels = Value | Annotated[tuple[Value, ...], BeforeValidator(as_tuple)]


class Labelled(FileSource):
    """Pairs from jsonl files of texts with labels."""

    shares_prompts: ClassVar[bool] = True
    holds: ClassVar[str] = Jsonl.holds

    kind: Literal["labelled"]
    text: str = Field(min_length=1)
    """The column with the text."""
    label: str = Field(min_length=1)
    """The column with the text's label."""
    better: Labels
    """The label, or the labels, of the better texts."""
    worse: Labels
    """The label, or the labels, of the worse texts; null: all others."""
    instruction: Annotated[str, Field(min_length=1), IS_PROSE]
    """The prompt of the texts whose rows have no column `prompt`."""
    seed: int = Field(ge=0)
    """Decides which texts make a pair."""

    @model_validator(mode="after")
    def _tells_labels_apart(self) -> Self:
        better, worse = spellings(self.better), () if self.worse is None else spellings(self.worse)
        if both := [label for label in worse if is_any_of(label, better)]:
            raise ValueError(f"better and worse have the same label, {json.dumps(both[0])}")
        return self

    def read(self, file: Path, name: str) -> Iterator[RawRow]:
        """Yield the rows as they are."""
        return read_jsonl(file, name)

    def raw_rows(self, *, held_out: bool) -> Iterator[RawRow]:
        """Yield the pairs, then the rows without one; raises UserError (exit 3) as `read`, and without any pair."""
        groups = dict[str, tuple[list[RawRow], list[RawRow]]]()
        seen, labels, any_pair, left_out = set[str](), Counter[str](), False, list[RawRow]()
        wanted = {name: spellings(values) for name, values in self.where.items()}
        for row in super().raw_rows(held_out=held_out):
            if unwanted_column(row, wanted) is not None:
                left_out.append(row._replace(left_out="by data.where"))
                continue
            label, prompt, text = (self._read(row, name) for name in (self.label, self.prompt, self.text))
            labels[json.dumps(label)] += 1
            key = json.dumps([prompt, text])
            place = self._place(label)
            if place is None:
                left_out.append(row._replace(left_out="with another label"))
            elif self.dedup and key in seen:
                left_out.append(row._replace(left_out="by data.dedup"))
            else:
                groups.setdefault(json.dumps(prompt), ([], []))[place].append(row)
                seen.add(key)
        for better, worse in groups.values():
            sides = self._shuffle(better, "better"), self._shuffle(worse, "worse")
            pairs = min(map(len, sides))
            any_pair |= pairs > 0
            yield from map(self._pair, *sides)
            left_out += [row._replace(left_out="without a partner") for side in sides for row in side[pairs:]]
        if not any_pair:
            found = ", ".join(f"{label} ({count})" for label, count in labels.most_common(_SHOWN))
            raise bad_data(
                f"no better and worse text of one prompt; labels: {found or 'none'}",
                self.place(held_out=held_out),
                "say which label is better: data.better=LABEL",
            )
        yield from left_out

    def _read(self, row: RawRow, name: str) -> Any:
        """The value of a column; raises UserError where it is missing, but for the prompt, which may be the same."""
        value = row.columns.get(name)
        if value is not None:
            return value
        if name == self.prompt:
            return self.instruction
        what = f"{name} is null" if name in row.columns else f"no column '{name}'; columns: {', '.join(row.columns)}"
        raise bad_data(what, row.where, "say which they are: data.text=COLUMN data.label=COLUMN")

    def _place(self, label: Any) -> int | None:
        """0 for a better text, 1 for a worse one, None for neither."""
        if is_any_of(label, spellings(self.better)):
            return 0
        return 1 if self.worse is None or is_any_of(label, spellings(self.worse)) else None

    def _shuffle(self, rows: Iterable[RawRow], side: str) -> list[RawRow]:
        """The rows in an order that depends on the seed and their texts, not on the order of the file."""

        def digest(row: RawRow) -> bytes:
            return hashlib.sha256(json.dumps([self.seed, side, self._read(row, self.text)]).encode()).digest()

        return sorted(rows, key=digest)

    def _pair(self, better: RawRow, worse: RawRow) -> RawRow:
        columns = {CHOSEN: self._read(better, self.text), REJECTED: self._read(worse, self.text)}
        return RawRow({self.prompt: self._read(better, self.prompt), **columns}, f"{better.where}, {worse.where}")
