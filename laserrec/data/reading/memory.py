"""Tables that are in memory already."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from laserrec.data.reading.rows import MOST_LETTERS, Places, Rows, named
from laserrec.data.reading.typed import from_polars
from laserrec.data.tables import BadRow
from laserrec.errors import DataError


class ArrowTable(Protocol):
    """Any table that hands out its columns as Arrow does: of Polars, pandas, PyArrow, DuckDB, and others."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Hand out the columns."""
        ...


@dataclass(frozen=True, eq=False)
class Tables:
    """Interactions and perhaps items, in memory; `prepare` accepts them instead of a path.

    Attributes:
        interactions: one row an event; columns as in a file, of any names.
        items: one row an item.
        name: what the dataset is called.
    """

    interactions: ArrowTable | pl.LazyFrame
    items: ArrowTable | pl.LazyFrame | None = None
    name: str = "tables"


class Frame:
    """One table in memory.

    Attributes:
        name: what messages call it.
        columns: its columns, an index left out.
        notes: columns that were left out.
    """

    def __init__(self, name: str, given: object) -> None:
        """Accept a table of whatever kind.

        Raises:
            DataError: it is none, or has columns that Polars cannot hold.
        """
        if not isinstance(given, pl.LazyFrame) and not hasattr(given, "__arrow_c_stream__"):
            raise DataError(
                f"The {name} must be a table of Polars, pandas or PyArrow, or another that hands out Arrow's columns; "
                f"received {type(given).__name__}. pandas does so from 2.2 on; a file is given by its path alone."
            )
        try:
            self._table = given.collect() if isinstance(given, pl.LazyFrame) else pl.DataFrame(given)
        except (pl.exceptions.PolarsError, ImportError, TypeError, ValueError) as error:  # ImportError: pandas' columns may need pyarrow
            raise DataError(f"The {name} cannot be read as a table: {error}") from error
        self.name = name
        self._places, self.notes = named(name, self._table.columns)
        self.columns = list(self._places)

    def read(self, wanted: Sequence[str], numbers: Collection[str] = ()) -> Rows:
        """Return some columns; see `laserrec.data.reading.rows.AnyTable.read`."""
        return well_formed(self.name, self._table.select(pl.nth(self._places[name]).alias(name) for name in wanted))


def well_formed(table: str, frame: pl.DataFrame) -> Rows:
    """Return the rows of a table that has types, all but those with a value that is too long."""
    frame = pl.DataFrame([from_polars(column) for column in frame.iter_columns()])
    bad: list[BadRow] = []
    lines: Sequence[int] = range(1, frame.height + 1)
    for name in (name for name, kind in frame.schema.items() if kind == pl.String):
        bytes_ = frame[name].str.len_bytes().max()
        if not isinstance(bytes_, int) or bytes_ <= MOST_LETTERS:
            continue
        long = (frame[name].str.len_chars() > MOST_LETTERS).fill_null(False)
        for row, letters in zip(long.arg_true(), frame[name].filter(long).str.len_chars(), strict=True):
            bad.append(BadRow(table, lines[row], f"a value of {letters:,} characters; at most {MOST_LETTERS:,} are read"))
        lines = [line for line, is_long in zip(lines, long, strict=True) if not is_long]
        frame = frame.filter(~long)
    return Rows(frame, (Places(table, lines),), bad)
