"""Files of fields between separators, without quoting, in memory as lists of text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import polars as pl

from laserrec.data.columns import listed
from laserrec.data.reading.contents import TextFile
from laserrec.data.reading.rows import Places, Rows, wrong_width
from laserrec.data.tables import BadRow
from laserrec.errors import DataError


def plain_rows(path: Path, separator: str, encoding: str = "utf-8") -> Iterator[tuple[int, list[str]]]:
    """Yield (line, fields) of a file without quoting; blank lines are passed over."""
    for number, line in TextFile(path, encoding).lines():
        if line.strip():
            yield number, line.rstrip("\r\n").split(separator)


class PlainTable:
    """Such a file as a table, see `laserrec.data.reading.rows.AnyTable`.

    Attributes:
        name: the file's.
        columns: names of the fields.
        notes: none.
        rows: (line, fields) of each well-formed row.
        problems: the others.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, name: str, columns: Sequence[str], rows: Iterable[tuple[int, list[str]]]) -> None:
        """Divide rows into those with as many fields as there are columns, and others."""
        self.name, self.columns = name, list(columns)
        self.rows: list[tuple[int, list[str]]] = []
        self.problems: list[BadRow] = []
        for line, fields in rows:
            if len(fields) == len(self.columns):
                self.rows.append((line, fields))
            else:
                self.problems.append(BadRow(name, line, wrong_width(len(fields), len(self.columns))))

    def read(self, wanted: Sequence[str], numbers: Collection[str] = ()) -> Rows:
        """Return some columns; see `laserrec.data.reading.rows.AnyTable.read`."""
        frame = pl.DataFrame({name: self.column(name) for name in wanted}, schema=dict.fromkeys(wanted, pl.String))
        return Rows(frame, (Places(self.name, [line for line, _ in self.rows]),), list(self.problems))

    def column(self, name: str) -> list[str]:
        """Return the values of a column.

        Raises:
            DataError: the file has no such column.
        """
        if name not in self.columns:
            raise DataError(f"{self.name} has no column {name!r}; it has {listed(self.columns)}.")
        place = self.columns.index(name)
        return [fields[place] for _, fields in self.rows]
