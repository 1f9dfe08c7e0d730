"""Prompts from csv files: a header row, then one row per record; all values are text."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Final, Literal

from rlhf_cli.data.source import FileSource, RawRow
from rlhf_cli.errors import bad_data
from rlhf_cli.plural import plural

LONGEST: Final = 2**27
"""The longest field, in characters; Python's own limit is 131,072."""


class Csv(FileSource):
    """Prompts from csv files."""

    holds: ClassVar[str] = "a header row, then a record a row"

    kind: Literal["csv"]

    def read(self, file: Path, name: str) -> Iterator[RawRow]:
        """Yield every row, named by the line it begins on; raises UserError (exit 3) for a row that does not fit."""
        csv.field_size_limit(LONGEST)
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = _number_rows(lines, name)
            header, where = next(rows, ([], ""))
            if twice := [column for column in header if header.count(column) > 1]:
                raise bad_data(f"two columns are called '{twice[0]}'", where, "rename one of them")
            if mark := next((mark for mark in ";\t" if len(header) == 1 and mark in header[0]), None):
                what = f"one column, {header[0]!r:.40}: columns are separated by {mark!r}"
                raise bad_data(what, where, "separate them by commas")
            if header and header[0].lstrip().startswith("{"):
                raise bad_data("JSON, not CSV", where, "data=jsonl reads JSON")
            for values, where in rows:
                if len(values) < len(header):
                    missing = ", ".join(header[len(values) :])
                    raise bad_data(
                        f"the row ends before {missing}", where, "give every column a value, if an empty one"
                    )
                if len(values) > len(header):
                    columns, rest = plural(len(header), "column"), values[len(header)]
                    what = f"{len(values)} values for {columns}; left over: {rest!r:.40}"
                    raise bad_data(what, where, 'put "quotes" around a value with commas')
                yield RawRow(dict(zip(header, values, strict=True)), where)


def _number_rows(lines: Iterable[str], name: str) -> Iterator[tuple[list[str], str]]:
    """Yield the rows that are not blank, each with name:line of its beginning."""
    reader = csv.reader(lines, strict=True)
    while True:
        where = f"{name}:{reader.line_num + 1}"
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise bad_data(f"not CSV: {error}", where, 'put "quotes" around values, and double those inside') from error
        if row is None:
            return
        if row:
            yield row, where
