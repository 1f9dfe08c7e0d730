"""What all sources of prompts share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from rlhf_cli.data.files import matching_files, readable
from rlhf_cli.data.template import checked, column_names
from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.settings import FilePath, Settings, as_tuple

Value = str | int | float | bool | None


class Record(NamedTuple):
    """One row as it stands in its source."""

    columns: Mapping[str, Any]
    where: str
    """file:line"""


class Source(Settings):
    """What the prompts are made of, and which rows are left out."""

    prompt: str = Field(min_length=1)
    """The column with the prompt: text, or a list of chat messages."""
    template: Annotated[str, AfterValidator(checked)] | None
    """A text with the names of columns in braces, which makes the prompt: "Question: {question}\\nAnswer:"; null: the
    column alone."""
    system: Annotated[str, Field(min_length=1)] | None
    """A system prompt, before every prompt that has none; it makes a chat of a text."""
    first_words: Annotated[int, Field(ge=1)] | None
    """Only the first words of the column that `prompt` names are used; null: all of it."""
    where: dict[str, Value | Annotated[tuple[Value, ...], BeforeValidator(as_tuple)]]
    """Column -> the value, or the values, that a row must have there to be used."""
    dedup: bool
    """Whether a prompt that came before is left out."""
    max_rows: Annotated[int, Field(ge=1)] | None
    """Training rows that are read, those left out not counted; null: all."""
    max_prompt_tokens: int = Field(ge=1)
    """The longest prompt, in the policy's tokens, chat template included."""
    too_long: Literal["error", "drop", "truncate_left"]
    """What becomes of longer prompts: stop and name the first one, leave them out and say how many, or keep their end
    alone."""

    @model_validator(mode="after")
    def _uses_first_words(self) -> Source:
        if self.first_words and self.template is not None and self.prompt not in column_names(self.template):
            raise ValueError(f"first_words cuts the column {self.prompt}, which the template does not have")
        return self

    @property
    @abstractmethod
    def sets_aside(self) -> bool:
        """Whether the held-out rows are taken from the training rows."""

    @abstractmethod
    def place(self, *, held_out: bool) -> str:
        """Where the rows come from, for messages."""

    @abstractmethod
    def records(self, *, held_out: bool) -> Iterator[Record]:
        """The rows as they stand there, in order; raises UserError (exit 3) for what cannot be read."""

    @property
    def parts(self) -> Mapping[str, Source]:
        """This source alone, without a name."""
        return {"": self}

    @property
    def weights(self) -> Mapping[str, float]:
        """It has every step to itself."""
        return {"": 1.0}


class FileSource(Source):
    """A file, or all files that fit a pattern: data/*.jsonl, data/**/*.jsonl for folders in folders."""

    holds: ClassVar[str]
    """What such a file holds, for messages."""

    path: FilePath
    """Training prompts."""
    eval_path: FilePath | None
    """Held-out prompts; null sets evaluate.prompts rows of `path` aside, chosen by their hash."""

    @property
    def sets_aside(self) -> bool:
        """Whether the held-out rows are taken from the training rows."""
        return self.eval_path is None

    def place(self, *, held_out: bool) -> str:
        """The path."""
        return self.eval_path if held_out and self.eval_path is not None else self.path

    def records(self, *, held_out: bool) -> Iterator[Record]:
        """The rows of one file after the other; raises UserError (exit 3) for what cannot be read."""
        path, any_row = self.place(held_out=held_out), False
        for file, name in matching_files(path):
            with readable(file, name):
                for record in self.read(file, name):
                    any_row = True
                    yield record
        if not any_row:
            raise UserError("the prompt file is empty", where=path, fix=self.holds, exit_code=EXIT_DATA)

    @abstractmethod
    def read(self, file: Path, name: str) -> Iterator[Record]:
        """The rows of one file, which messages call `name`."""
