"""Rows as a table holds them, and where each of them stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from laserrec.data.tables import BadRow
from laserrec.errors import DataError

MOST_LETTERS = 2**20
"""Longest value that is read, in characters: far beyond any id or title, so a longer one is a quote gone wrong or an attack."""
MOST_COLUMNS = 10_000
"""Most columns of a table: a log or a catalogue has dozens, and a matrix written as a table is none of the two."""


def check_width(table: str, columns: int) -> None:
    """Refuse a table that is too wide.

    Raises:
        DataError: it has more than `MOST_COLUMNS`.
    """
    if columns > MOST_COLUMNS:
        raise DataError(f"{table} has {columns:,} columns or more; at most {MOST_COLUMNS:,} are read. Write one row an event, or an item.")


def named(table: str, columns: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the columns that have names, and a note about the others.

    Args:
        table: what messages call it.
        columns: the names as the table has them.

    Returns:
        The name as the table has it for each name without white space around it, and notes.

    Raises:
        DataError: there is none, two are equal, or there are too many.
    """
    check_width(table, len(columns))
    if not columns:
        raise DataError(f"{table} is empty: expected a header and rows.")
    names = [(column.strip(), column) for column in columns if column.strip()]
    counts = Counter(name for name, _ in names)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice:
        raise DataError(f"{table}: the header names {', '.join(map(repr, twice[:10]))} more than once.")
    left = len(columns) - len(names)
    left_out = f"{table}: {left} column{'s' if left > 1 else ''} without a name {'were' if left > 1 else 'was'} left out"
    return dict(names), (left_out,) if left else ()


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
    """

    frame: pl.DataFrame
    places: tuple[Places, ...]
    bad: list[BadRow] = field(default_factory=list)

    @property
    def read(self) -> int:
        """Number of rows, malformed ones included."""
        return self.frame.height + len(self.bad)

    @property
    def lines(self) -> pl.Series:
        """Line of each row in its file, Int64."""
        return pl.concat([pl.Series("line", list(place.lines), dtype=pl.Int64) for place in self.places])

    def bad_row(self, row: int, reason: str) -> BadRow:
        """Return a record that a row of the frame, counted from 0, cannot be used."""
        for place in self.places:
            if row < len(place.lines):
                return BadRow(place.file, int(place.lines[row]), reason)
            row -= len(place.lines)
        raise IndexError(f"These rows end {row + 1} before.")
