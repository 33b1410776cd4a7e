"""Rows as a table holds them, and where each of them stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from laserrec.data.tables import BadRow
from laserrec.errors import DataError

MOST_LETTERS = 2**20
"""Longest value that is read, in characters: far beyond any id or title, so a longer one is a quote gone wrong or an attack."""
MOST_COLUMNS = 10_000
"""Most columns of a table: a log or a catalogue has dozens, and a matrix written as a table is none of the two."""


class EmptyFileError(DataError):
    """A file of a table holds nothing, as some parts of a large table do."""


def check_width(table: str, columns: int) -> None:
    """Refuse a table that is too wide.

    Raises:
        DataError: it has more than `MOST_COLUMNS`.
    """
    if columns > MOST_COLUMNS:
        raise DataError(f"{table} has {columns:,} columns or more; at most {MOST_COLUMNS:,} are read. Write one row an event, or an item.")


def wrong_width(found: int, expected: int) -> str:
    """Return what is wrong with a row of some fields where another number is expected."""
    return f"{found} column{'' if found == 1 else 's'} instead of {expected}"


def named(table: str, columns: Sequence[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the places of the columns that have names, and a note about the others.

    Args:
        table: what messages call it.
        columns: the names as the table has them.

    Returns:
        The place from 0 of each name, which has no white space around it, and notes.

    Raises:
        DataError: there is none, two are equal, or there are too many.
    """
    check_width(table, len(columns))
    if not columns:
        raise EmptyFileError(f"{table} is empty: expected a header and rows.")
    counts = Counter(column.strip() for column in columns)
    left = counts.pop("", 0)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice:
        raise DataError(f"{table}: the header names {', '.join(map(repr, twice[:10]))} more than once.")
    places = {column.strip(): place for place, column in enumerate(columns) if column.strip()}
    left_out = f"{table}: {left} column{'s' if left > 1 else ''} without a name {'were' if left > 1 else 'was'} left out"
    return places, (left_out,) if left else ()


@dataclass(frozen=True)
class Places:
    """Where the rows of one file stand.

    Attributes:
        file: its name.
        lines: line of each row, from 1 (the row's number, for formats without lines).
    """

    file: str
    lines: Sequence[int]


@dataclass(frozen=True)
class Rows:
    """The well-formed rows of a table, and the others.

    Attributes:
        frame: the columns that were asked for, under their names in the table. Their types are String, Int64, Float64, Boolean, Date,
            Datetime, Time and Duration; Object where values are of several types, nested, bytes, or whole numbers beyond 64 bits.
        places: where the rows stand, file by file.
        bad: malformed rows.
        picked: of rows that were picked from all well-formed ones, their numbers among those, int64; None for all.
    """

    frame: pl.DataFrame
    places: tuple[Places, ...]
    bad: list[BadRow] = field(default_factory=list)
    picked: NDArray[np.int64] | None = None

    def bad_row(self, row: int, reason: str) -> BadRow:
        """Return a record that a row of the frame, counted from 0, cannot be used."""
        row = row if self.picked is None else int(self.picked[row])
        for place in self.places:
            if row < len(place.lines):
                return BadRow(place.file, int(place.lines[row]), reason)
            row -= len(place.lines)
        raise IndexError(f"These rows end {row + 1} before.")


class AnyTable(Protocol):
    """A table whose columns are known and whose rows can be read: one file, several, or a table in memory.

    Attributes:
        name: what messages call it.
        columns: the columns' names, without white space around them.
        notes: how it was read where that had to be guessed, and what was left out.
    """

    name: str
    columns: list[str]
    notes: tuple[str, ...]

    def read(self, wanted: Sequence[str], numbers: Collection[str] = ()) -> Rows:
        """Return the rows with some columns.

        Args:
            wanted: names of columns.
            numbers: those among them that may come as Int64 where all values are whole numbers, which is quicker; otherwise CSV's
                values are text.

        Raises:
            DataError: the table cannot be read any more.
        """
        ...
