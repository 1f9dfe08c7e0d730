"""The settings and methods that all sources of prompts share, and the libraries that some of them need."""

import importlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from rlhf_cli.data.files import file_errors, find_files
from rlhf_cli.data.template import check_template, column_names
from rlhf_cli.errors import bad_data
from rlhf_cli.settings import IS_PROSE, FilePath, Settings, as_tuple

Value = str | int | float | bool | None


class RawRow(NamedTuple):
    """One row as its source holds it."""

    columns: Mapping[str, Any]
    where: str
    """file:line"""
    left_out: str | None = None
    """The reason for which the source leaves it out."""


class PromptSource(Settings):
    """A source of prompts: where its rows are, how prompts are built from them, and which rows are left out."""

    shares_prompts: ClassVar[bool] = False
    """Whether rows may differ in other columns alone; if all have one prompt, these tell which rows are held out."""

    prompt: str = Field(min_length=1)
    """The column with the prompt: text, or a list of chat messages."""
    template: Annotated[str, AfterValidator(check_template), IS_PROSE] | None
    """The prompt as a text with names of columns in braces: "Question: {question}\\nAnswer:"; null: the column
    `prompt` alone."""
    system: Annotated[str, Field(min_length=1), IS_PROSE] | None
    """A system prompt for every prompt that has none; it turns a text into a chat."""
    first_words: Annotated[int, Field(ge=1)] | None
    """Number of words of the column `prompt` that are used, from its beginning; null: all."""
    where: dict[str, Value | Annotated[tuple[Value, ...], BeforeValidator(as_tuple)]]
    """Column -> the value, or the values, one of which a row must have there to be used."""
    dedup: bool
    """Whether repeated prompts are left out."""
    max_rows: Annotated[int, Field(ge=1)] | None
    """Largest number of training rows, not counting those left out; null: all."""
    max_prompt_tokens: int = Field(ge=1)
    """The longest prompt, in the policy's tokens, chat template included."""
    too_long: Literal["error", "drop", "truncate_left"]
    """For longer prompts: stop and name the first one, leave them out and count them, or keep only their end."""
    secrets: Literal["error", "drop", "keep"] = "error"
    """For rows that hold a key for certain (a provider's format, a private key) in the prompt or in a column that the
    run reads: stop and name the first one, leave them out and count them, or keep them, also in samples and reports."""

    @model_validator(mode="after")
    def _uses_first_words(self) -> Self:
        if self.first_words and self.template is not None and self.prompt not in column_names(self.template):
            raise ValueError(f"first_words cuts the column {self.prompt}, which the template does not have")
        return self

    @property
    @abstractmethod
    def sets_aside(self) -> bool:
        """Whether the held-out rows are taken from the training rows."""

    @abstractmethod
    def place(self, *, held_out: bool) -> str:
        """The place of the rows, for messages."""

    @abstractmethod
    def raw_rows(self, *, held_out: bool) -> Iterator[RawRow]:
        """Yield the rows in order; raises UserError (exit 3) for a row that cannot be read."""

    @property
    def parts(self) -> Mapping[str, Self]:
        """The sources by name, as a mixture has them: this one alone, without a name."""
        return {"": self}

    @property
    def weights(self) -> Mapping[str, float]:
        """Their weights: this one has the whole weight."""
        return {"": 1.0}


class FileSource(PromptSource):
    """A file, or all files that match a pattern: data/*.jsonl; data/**/*.jsonl includes inner folders."""

    holds: ClassVar[str]
    """The content of such a file, for messages."""

    path: FilePath
    """Training prompts."""
    eval_path: FilePath | None
    """Held-out prompts; null: evaluate.prompts rows of `path` are set aside, chosen by their hash."""

    @property
    def sets_aside(self) -> bool:
        """Whether the held-out rows are taken from the training rows."""
        return self.eval_path is None

    def place(self, *, held_out: bool) -> str:
        """The path of the training prompts, or of the held-out ones where they have their own."""
        return self.eval_path if held_out and self.eval_path is not None else self.path

    def raw_rows(self, *, held_out: bool) -> Iterator[RawRow]:
        """Yield the rows, file after file; raises UserError (exit 3) for an unreadable row, and without any row."""
        path, any_row = self.place(held_out=held_out), False
        key = "data.eval_path" if held_out and self.eval_path is not None else "data.path"
        for file, name in find_files(path, key):
            with file_errors(file, name):
                for row in self.read(file, name):
                    any_row = True
                    yield row
        if not any_row:
            raise bad_data("the prompt file is empty", path, self.holds)

    @abstractmethod
    def read(self, file: Path, name: str) -> Iterator[RawRow]:
        """Yield the rows of one file, which messages call `name`."""


def spellings(values: Any) -> list[Any]:
    """A value, or each of several, and their spellings in a file of texts."""
    each = values if isinstance(values, tuple) else (values,)
    spelled = [json.dumps(value) for value in each if not isinstance(value, str)]
    cased = [form for word in ("true", "false") if word in spelled for form in (word.title(), word.upper())]
    return [*each, *spelled, *cased]


def is_any_of(value: Any, values: Iterable[Any]) -> bool:
    """Whether `values` contain the value, as in JSON: there, unlike in Python, true is not 1."""
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values)


def import_extra(module: str, kind: str) -> Any:
    """Import a module; raises UserError (exit 3) with the way to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise bad_data(
            f"data={kind} needs {package}, which is not installed", "data", f"pip install 'rlhf-cli[{kind}]'"
        ) from error


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """Convert a row to JSON's types: dates and bytes become text; a number that is missing (NaN) becomes null."""
    columns: dict[str, Any] = json.loads(json.dumps(row, default=_as_text), parse_constant=lambda name: None)
    return columns


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):  # some programs write texts so; an image stays what Python shows
        with suppress(UnicodeDecodeError):
            return value.decode()
    return str(value)
