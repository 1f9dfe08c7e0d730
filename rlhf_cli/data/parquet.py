"""Prompts from parquet files, read batch by batch by pyarrow, an extra."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final, Literal

from rlhf_cli.data.source import FileSource, RawRow, as_json, import_extra
from rlhf_cli.errors import bad_data, first_line

BATCH: Final = 1024
"""Rows read into memory at once."""


class Parquet(FileSource):
    """Prompts from parquet files; messages name a row by its number, from 1."""

    holds: ClassVar[str] = "a table with a column prompt"

    kind: Literal["parquet"]

    def read(self, file: Path, name: str) -> Iterator[RawRow]:
        """Yield every row; raises UserError (exit 3) for a file that is not parquet."""
        arrow, parquet = import_extra("pyarrow", self.kind), import_extra("pyarrow.parquet", self.kind)
        number = 0
        try:
            with parquet.ParquetFile(file) as table:
                for batch in table.iter_batches(batch_size=BATCH):
                    for row in batch.to_pylist():
                        number += 1
                        yield RawRow(as_json(row), f"{name}:{number}")
        except arrow.ArrowException as error:
            raise bad_data(f"not parquet: {first_line(error)}", f"{name}:{number + 1}", "write it anew") from error
