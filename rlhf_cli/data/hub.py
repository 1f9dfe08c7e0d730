"""A data set of the Hugging Face hub (`datasets`, an extra). From version 4 on that runs no code of a data set's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from rlhf_cli.data.extras import extra, plain
from rlhf_cli.data.source import Record, Source
from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.settings import HubPath


class Hub(Source):
    """Prompts from the hub, downloaded once and read from disk row by row; a row is called by its number, from 1."""

    kind: Literal["hub"]
    id: HubPath
    """Hub id, or a local folder with files of data."""
    name: str | None
    """Which of the data set's configurations; null: its only one."""
    split: str
    """The split with the training prompts: train, or as datasets writes a part of one, train[:10%]."""
    eval_split: str | None
    """Held-out prompts; null sets evaluate.prompts rows of `split` aside, chosen by their hash."""
    revision: str | None
    """Branch, tag or commit; null takes the default branch."""

    @property
    def sets_aside(self) -> bool:
        """Whether the held-out rows are taken from the training rows."""
        return self.eval_split is None

    def place(self, *, held_out: bool) -> str:
        """`id/split`."""
        split = self.eval_split if held_out and self.eval_split is not None else self.split
        return f"{self.id}/{split}"

    def records(self, *, held_out: bool) -> Iterator[Record]:
        """The split's rows; raises UserError (exit 3) where it cannot be had."""
        datasets, place = extra("datasets", self.kind), self.place(held_out=held_out)
        datasets.logging.set_verbosity_error()
        try:
            split = place.removeprefix(f"{self.id}/")
            rows = datasets.load_dataset(self.id, self.name, split=split, revision=self.revision)
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise UserError(
                f"cannot load the data set: {said}",
                where=place,
                fix="check data.id, data.name, data.split and the network",
                exit_code=EXIT_DATA,
            ) from error
        for number, row in enumerate(rows, start=1):
            yield Record(plain(row), f"{place}:{number}")
