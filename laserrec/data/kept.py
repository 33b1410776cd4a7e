"""Which rows of a log are kept, by the values of some columns and by a lowest rating."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from laserrec.data.columns import guess, listed, told
from laserrec.data.options import FLAGS, ReadOptions
from laserrec.data.reading.rows import Rows
from laserrec.data.tables import BadRow
from laserrec.data.values import texts
from laserrec.errors import DataError


@dataclass(frozen=True)
class Picked:
    """Some of a table's rows.

    Attributes:
        rows: all of the table's.
        frame: the cells of those that were picked.
        places: their numbers among all, int64; None where they are all.
    """

    rows: Rows
    frame: pl.DataFrame
    places: NDArray[np.int64] | None = None

    def bad_row(self, row: int, reason: str) -> BadRow:
        """Return a record that a row of the frame cannot be used."""
        return self.rows.bad_row(row if self.places is None else int(self.places[row]), reason)

    def of_table(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers among all of the table's rows."""
        return rows if self.places is None else self.places[rows]

    def exploded(self, column: str) -> Picked:
        """Return one row an entry of each list in a column; an empty list stays, as a row without a value."""
        if self.frame[column].dtype != pl.Object:
            return self
        entries = [(value or [None]) if isinstance(value, list | tuple) else [value] for value in self.frame[column].to_list()]
        rows = np.repeat(np.arange(self.frame.height), [len(values) for values in entries])
        flat = pl.Series(column, [value for values in entries for value in values], dtype=pl.Object)
        cells = (flat if name == column else self.frame[name].gather(pl.Series(rows)) for name in self.frame.columns)
        return Picked(self.rows, pl.DataFrame(list(cells)), self.of_table(rows))


@dataclass(frozen=True)
class Kept:
    """Conditions that a row is kept on.

    Attributes:
        values: the values of each column that are kept.
        rating: column of the rating; None where any is kept.
        least: lowest rating.
    """

    values: dict[str, tuple[str, ...]]
    rating: str | None
    least: float

    @classmethod
    def of(cls, table: str, columns: Sequence[str], options: ReadOptions) -> Kept:
        """Read the options `keep` and `min_rating`.

        Raises:
            DataError: a condition is none, or names a column that is absent.
        """
        values: dict[str, tuple[str, ...]] = {}
        for condition in options.keep:
            name, sign, wanted = condition.partition("=")
            if not sign or not wanted.strip():
                raise DataError(f"Received {FLAGS['keep']} {condition!r}; expected is COLUMN=VALUE or COLUMN=VALUE,VALUE.")
            column = told(name.strip(), columns, FLAGS["keep"], table)
            values[column] = (*values.get(column, ()), *(value.strip() for value in wanted.split(",")))
        rating = None if options.min_rating is None else guess("rating", columns)
        if options.min_rating is not None and rating is None:
            raise DataError(
                f"{table}: cannot tell which column is the rating that {FLAGS['min_rating']} speaks of; it has {listed(columns)}. "
                "Leave it out, or name the column 'rating'."
            )
        return cls(values, rating, options.min_rating or 0.0)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are read for the conditions."""
        return (*self.values, *([self.rating] if self.rating else []))

    @property
    def roles(self) -> dict[str, str]:
        """The conditions, as the summary shows them."""
        kept = ", ".join(f"{name} = {' or '.join(values)}" for name, values in self.values.items())
        return ({"kept by": kept} if kept else {}) | ({"rating": f"{self.rating} of {self.least:g} and more"} if self.rating else {})

    def pick(self, rows: Rows) -> tuple[Picked, list[BadRow]]:
        """Return the rows that are kept, and those whose rating cannot be read.

        Raises:
            DataError: no row has any of a column's values.
        """
        if not self.columns:
            return Picked(rows, rows.frame), []
        kept = np.ones(rows.frame.height, dtype=np.bool_)
        for name, values in self.values.items():
            kept &= _holds(rows.frame[name], values)
        bad: list[BadRow] = []
        if self.rating:
            given = rows.frame[self.rating]
            ratings = texts(given).cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
            unread = np.flatnonzero(kept & np.isnan(ratings))
            bad = [rows.bad_row(row, f"the rating {str(given[row])[:40]!r} is not a number") for row in unread.tolist()]
            kept &= ratings >= self.least  # which no NaN is
        return Picked(rows, rows.frame.filter(pl.Series(kept)), np.flatnonzero(kept)), bad


def _holds(column: pl.Series, values: tuple[str, ...]) -> NDArray[np.bool_]:
    """Return which cells hold one of some values, as text or as what they are cleaned to."""
    found = texts(column, marks=())
    cleaned = texts(pl.Series(values, dtype=pl.String), marks=()).drop_nulls()
    here = found.is_in([*values, *cleaned]).fill_null(False)
    if len(column) and not here.any():
        common = ", ".join(repr(value[:40]) for value in found.drop_nulls().value_counts(sort=True).to_series()[:10])
        raise DataError(f"{FLAGS['keep']}: the column {column.name!r} never holds {' or '.join(map(repr, values))}; it holds {common}.")
    return here.to_numpy()
