"""Which rows of a log are events: those with the wanted values and ratings, and of a list of items each entry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from laserrec.data.columns import LogColumns
from laserrec.data.reading.rows import Rows
from laserrec.data.tables import BadRow
from laserrec.data.values import texts
from laserrec.errors import DataError


def pick(rows: Rows, columns: LogColumns, least: float) -> tuple[Rows, list[BadRow]]:
    """Return the rows that are kept, and those whose rating cannot be read.

    Args:
        rows: all of a log's.
        columns: the values and the rating that rows are kept with.
        least: lowest rating that is kept.

    Raises:
        DataError: no row has any of a column's values.
    """
    if not columns.conditions:
        return rows, []
    kept = np.ones(rows.frame.height, dtype=np.bool_)
    for name, values in columns.kept.items():
        kept &= _holds(rows.frame[name], values)
    bad: list[BadRow] = []
    if columns.rating is not None:
        given = rows.frame[columns.rating]
        ratings = texts(given).cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        unread = np.flatnonzero(kept & np.isnan(ratings))
        bad = [rows.bad_row(row, f"the rating {str(given[row])[:40]!r} is not a number") for row in unread.tolist()]
        kept &= ratings >= least  # which no NaN is
    return replace(rows, frame=rows.frame.filter(pl.Series(kept)), picked=np.flatnonzero(kept)), bad


def exploded(rows: Rows, column: str) -> Rows:
    """Return one row an entry of each list in a column; an empty list stays, as a row without a value."""
    frame = rows.frame
    if frame[column].dtype != pl.Object:
        return rows
    entries = [(value or [None]) if isinstance(value, list | tuple) else [value] for value in frame[column].to_list()]
    of_row = np.repeat(np.arange(frame.height), [len(values) for values in entries])
    flat = pl.Series(column, [value for values in entries for value in values], dtype=pl.Object)
    cells = [flat if name == column else frame[name].gather(pl.Series(of_row)) for name in frame.columns]
    return replace(rows, frame=pl.DataFrame(cells), picked=of_row if rows.picked is None else rows.picked[of_row])


def _holds(column: pl.Series, values: tuple[str, ...]) -> NDArray[np.bool_]:
    """Return which cells hold one of some values, as text or as what they are cleaned to."""
    found = texts(column, marks=())
    cleaned = texts(pl.Series(values, dtype=pl.String), marks=()).drop_nulls()
    here = found.is_in([*values, *cleaned]).fill_null(False)
    if len(column) and not here.any():
        common = ", ".join(repr(value[:40]) for value in found.drop_nulls().value_counts(sort=True).to_series()[:10])
        message = f"The column {column.name!r} never holds {' or '.join(map(repr, values))}; it holds {common}."
        raise DataError(message, parameters=["keep"])
    return here.to_numpy()
