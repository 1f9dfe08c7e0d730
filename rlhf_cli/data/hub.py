"""Prompts from a data set of the Hugging Face hub.

The library `datasets` is an extra; from its version 4 on it runs no code of data sets.
"""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from rlhf_cli.data.source import PromptSource, RawRow, as_json, import_extra
from rlhf_cli.errors import bad_data, first_line
from rlhf_cli.settings import HubPath


class Hub(PromptSource):
    """Prompts from the hub, downloaded once and read from disk; messages name a row by its number, from 1."""

    kind: Literal["hub"]
    id: HubPath
    """Hub id, or a local folder with files of data."""
    name: str | None
    """The configuration of the data set; null: its only one."""
    split: str
    """The split of the training prompts: train, or a slice in the notation of datasets, train[:10%]."""
    eval_split: str | None
    """Held-out prompts; null: evaluate.prompts rows of `split` are set aside, chosen by their hash."""
    revision: str | None
    """Branch, tag or commit; null takes the default branch."""

    @property
    def sets_aside(self) -> bool:
        """Whether the held-out rows are taken from the training rows."""
        return self.eval_split is None

    def place(self, *, held_out: bool) -> str:
        """The data set and the split, as `id/split`."""
        return f"{self.id}/{self._split(held_out)}"

    def raw_rows(self, *, held_out: bool) -> Iterator[RawRow]:
        """Yield the split's rows; raises UserError (exit 3) where it cannot be loaded."""
        if self.revision is not None and Path(self.id).is_dir():
            raise bad_data(
                f"{self.id} is a folder, which has no revisions: {self.revision} would be ignored",
                "data.revision",
                "leave it out, or give the data set's name on the hub",
            )
        datasets, place = import_extra("datasets", self.kind), self.place(held_out=held_out)
        _silence(datasets, self.id)
        try:
            rows = datasets.load_dataset(self.id, self.name, split=self._split(held_out), revision=self.revision)
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            raise bad_data(
                f"cannot load the data set: {first_line(error).rstrip('.')}",
                place,
                "check data.id, data.name, data.split and the network",
            ) from error
        for number, row in enumerate(rows, start=1):
            yield RawRow(as_json(row), f"{place}:{number}")

    def _split(self, held_out: bool) -> str:
        return self.eval_split if held_out and self.eval_split is not None else self.split


def _silence(datasets: Any, source: str) -> None:
    """Silence the warnings of the libraries, and their bars except for a download that somebody watches."""
    datasets.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if Path(source).is_dir() or not sys.stderr.isatty():
        datasets.disable_progress_bars()
