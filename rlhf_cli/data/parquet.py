"""Columns of typed values, read batch by batch (pyarrow, an extra)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final, Literal

from rlhf_cli.data.extras import extra, plain
from rlhf_cli.data.files import bad_row
from rlhf_cli.data.source import FileSource, Record

BATCH: Final = 1024
"""Rows in memory at once that may yet be left out."""


class Parquet(FileSource):
    """Prompts from parquet files; a row is called by its number, from 1."""

    holds: ClassVar[str] = "a table with a column prompt"

    kind: Literal["parquet"]

    def read(self, file: Path, name: str) -> Iterator[Record]:
        """Every row; raises UserError (exit 3) for a file that is no parquet."""
        arrow, parquet = extra("pyarrow", self.kind), extra("pyarrow.parquet", self.kind)
        number = 0
        try:
            with parquet.ParquetFile(file) as table:
                for batch in table.iter_batches(batch_size=BATCH):
                    for row in batch.to_pylist():
                        number += 1
                        yield Record(plain(row), f"{name}:{number}")
        except arrow.ArrowException as error:
            said = str(error).strip().splitlines()[0]
            raise bad_row(f"not parquet: {said}", f"{name}:{number + 1}", "write it anew") from error
