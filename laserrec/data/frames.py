"""Tables that are in memory already, in the place of files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from laserrec.errors import DataError


class ArrowTable(Protocol):
    """Any table that hands out its columns as Arrow does: of Polars, pandas, PyArrow, DuckDB, and others."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Hand out the columns."""
        ...


@dataclass(frozen=True, eq=False)
class Tables:
    """Interactions and perhaps items, in memory; `prepare` takes them where it takes a path.

    Attributes:
        interactions: one row an event; columns as in a file, of any names.
        items: one row an item.
        name: what the dataset is called.
    """

    interactions: ArrowTable | pl.LazyFrame
    items: ArrowTable | pl.LazyFrame | None = None
    name: str = "tables"


@dataclass(frozen=True, eq=False)
class Frame:
    """One table in memory.

    Attributes:
        name: what messages call it.
        table: its columns.
    """

    name: str
    table: pl.DataFrame

    @classmethod
    def of(cls, name: str, given: object) -> Frame:
        """Take a table of whatever kind, without its index if it has one.

        Raises:
            DataError: it is none, or has columns that Polars cannot hold.
        """
        if not isinstance(given, pl.LazyFrame) and not hasattr(given, "__arrow_c_stream__"):
            raise DataError(
                f"The {name} must be a table of Polars, pandas or PyArrow, or another that hands out Arrow's columns; "
                f"received {type(given).__name__}. pandas does so from 2.2 on; a file is given by its path alone."
            )
        try:
            return cls(name, given.collect() if isinstance(given, pl.LazyFrame) else pl.DataFrame(given))
        except (pl.exceptions.PolarsError, ImportError, TypeError, ValueError) as error:  # ImportError: pandas' columns may need pyarrow
            raise DataError(f"The {name} cannot be read as a table: {error}") from error


Table = Path | Frame
"""A table in a file or in memory."""
