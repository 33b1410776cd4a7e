"""A table of one file, or of several that belong together, opened once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import polars as pl

from laserrec.data.options import ReadOptions
from laserrec.data.reading.files import TableFile, table_files, unknown_kind
from laserrec.data.reading.jsonlines import JsonLines
from laserrec.data.reading.parquet import Parquet
from laserrec.data.reading.rows import AnyTable, EmptyFileError, Rows
from laserrec.data.reading.separated import Separated
from laserrec.data.reading.typed import joined
from laserrec.errors import DataError


class Table:
    """A table whose columns are known and whose rows can be read, as `laserrec.data.reading.rows.AnyTable` describes it.

    Attributes:
        name: what messages call it.
        columns: the columns' names; keys of JSON that occur late are among them.
        notes: how the table was read where that had to be guessed, and what was left out.
        files: the files that hold it, with their kinds.

    Example:
        >>> table = Table.open(Path("log.csv"), ReadOptions())
        >>> table.read(["user_id", "item_id"]).frame
    """

    def __init__(self, name: str, files: Sequence[TableFile], options: ReadOptions) -> None:
        """Open files that have the same columns, in whatever order.

        Args:
            name: what messages call the table.
            files: as `laserrec.data.reading.files.table_files` finds them.
            options: `encoding`, `delimiter`, `quoting` and `max_unpacked_gib`.

        Raises:
            DataError: a file cannot be read, is of no known kind, has columns with no or equal names, or other columns than the first.
        """
        parts: list[AnyTable] = []
        empty: list[str] = []
        for file in files:
            try:
                parts.append(_open(file, options))
            except EmptyFileError:
                empty.append(file.path.name)
                if len(empty) == len(files):
                    raise
        # JSON leaves out what a row does not know, and so may a whole part of it.
        are_json = all(isinstance(part, JsonLines) for part in parts)
        for part in () if are_json else parts[1:]:
            other = set(part.columns) ^ set(parts[0].columns)
            if other:
                raise DataError(
                    f"{part.name} and {parts[0].name} are to be one table, but only one of them has "
                    f"{', '.join(map(repr, sorted(other)[:10]))}. "
                    "Give files with the same columns; CSV files each need their header."
                )
        self.name = name
        self.columns = list(dict.fromkeys(column for part in parts for column in part.columns))
        self.notes = (*(note for part in parts for note in part.notes), *(f"{name} is empty" for name in empty))
        self.files = tuple(files)
        self._parts = parts

    @classmethod
    def open(cls, source: Path, options: ReadOptions) -> Table:
        """Open a table.

        Args:
            source: a file of CSV, TSV, JSON lines or Parquet, by gzip or in a zip or plain; a folder of part files; or a pattern such as
                `logs/*.csv`.
            options: `encoding`, `delimiter`, `quoting` and `max_unpacked_gib`.

        Raises:
            DataError: there is no such table, or it cannot be opened.
        """
        files = table_files(source)
        if files is None:
            raise DataError(f"{source} is not a file, a folder of part files, or a pattern that files match.")
        return cls(source.name, files, options)

    def read(self, wanted: Sequence[str], numbers: Collection[str] = ()) -> Rows:
        """Return some columns; see `laserrec.data.reading.rows.AnyTable.read`."""
        rows = [part.read(wanted, numbers) for part in self._parts]
        if len(rows) == 1:
            return rows[0]
        frame = pl.DataFrame([joined([found.frame[name] for found in rows]) for name in wanted])
        places = tuple(place for found in rows for place in found.places)
        return Rows(frame, places, [bad for found in rows for bad in found.bad])


def _open(file: TableFile, options: ReadOptions) -> AnyTable:
    if file.kind == "jsonl":
        return JsonLines(file.path, options)
    if file.kind == "parquet":
        return Parquet(file.path, options)
    if file.kind is None:
        raise unknown_kind(file.path)
    return Separated(file.path, options, tabs=file.kind == "tsv")
