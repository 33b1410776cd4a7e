"""A table, opened once: in one file, in several that belong together, or in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

import polars as pl

from laserrec.data.options import ReadOptions
from laserrec.data.reading.files import known_kind, parts_of
from laserrec.data.reading.jsonlines import JsonLines
from laserrec.data.reading.memory import Frame
from laserrec.data.reading.parquet import Parquet
from laserrec.data.reading.rows import Rows
from laserrec.data.reading.separated import Separated
from laserrec.data.reading.typed import joined
from laserrec.errors import DataError


class Part(Protocol):
    """One file of a table, or a table in memory."""

    name: str
    columns: list[str]
    notes: tuple[str, ...]

    def read(self, wanted: Sequence[str], numbers: Collection[str] = ()) -> Rows:
        """Return some columns; see `Table.read`."""
        ...


class Table:
    """A table whose columns are known and whose rows can be read.

    Attributes:
        name: what messages call it.
        columns: the columns' names, without white space around them; keys of JSON that occur late are among them.
        notes: how the table was read where that had to be guessed, and what was left out.
        files: the files that hold it; none in memory.

    Example:
        >>> table = Table.open(Path("log.csv"), ReadOptions())
        >>> table.read(["user_id", "item_id"]).frame
    """

    def __init__(self, name: str, parts: Sequence[Part], files: Sequence[Path] = ()) -> None:
        """Join parts that have the same columns, in whatever order.

        Raises:
            DataError: a part has other columns.
        """
        self.name = name
        self.columns = parts[0].columns
        self.notes = tuple(note for part in parts for note in part.notes)
        self.files = tuple(files)
        self._parts = tuple(parts)
        for part in parts[1:]:
            other = set(part.columns) ^ set(self.columns)
            if other:
                raise DataError(
                    f"{part.name} and {parts[0].name} are to be one table, but only one of them has "
                    f"{', '.join(map(repr, sorted(other)[:10]))}. "
                    "Give files with the same columns; CSV files each need their header."
                )

    @classmethod
    def open(cls, source: Path | Frame, options: ReadOptions) -> Table:
        """Open a table.

        Args:
            source: a file of CSV, TSV, JSON lines or Parquet, by gzip or in a zip or plain; a folder of part files; a pattern such as
                `logs/*.csv`; or a table in memory.
            options: `encoding`, `delimiter`, `quoting` and `max_unpacked_gib`.

        Raises:
            DataError: it cannot be read, is of no known kind, or its columns have no or equal names.
        """
        if isinstance(source, Frame):
            return cls(source.name, [source])
        files = parts_of(source)
        if files is None:
            raise DataError(f"{source} is not a file, a folder of part files, or a pattern that files match.")
        parts = [_open(file, options) for file in files]
        return cls(source.name, parts, files)

    def read(self, wanted: Sequence[str], numbers: Collection[str] = ()) -> Rows:
        """Return the rows with some columns.

        Args:
            wanted: names of columns.
            numbers: those among them that may come as Int64 where all values are whole numbers, which is quicker; otherwise CSV's
                values are text.

        Raises:
            DataError: the file cannot be read any more.
        """
        rows = [part.read(wanted, numbers) for part in self._parts]
        if len(rows) == 1:
            return rows[0]
        frame = pl.DataFrame([joined([found.frame[name] for found in rows]) for name in wanted])
        places = tuple(place for found in rows for place in found.places)
        return Rows(frame, places, [bad for found in rows for bad in found.bad])


def _open(file: Path, options: ReadOptions) -> Part:
    kind = known_kind(file)
    if kind == "jsonl":
        return JsonLines(file, options)
    return Parquet(file, options) if kind == "parquet" else Separated(file, options)
